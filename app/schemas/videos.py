"""OpenAI's Videos format: the same jobs under other names."""

from typing import Literal

from pydantic import BaseModel, Field

from app.schemas.common import Number
from app.schemas.submission import JobFields


class VideoFields(JobFields):
    """A video to make, as a multipart form sends it beside the file `input_reference`; also every field of a job."""

    seconds: str | Number | None = Field(
        None,
        description="The length of the clip. It decides `num_frames`, and where the model has too few frames for its "
        "usual `target_fps`, a lower one; so it may not be given together with `num_frames`",
    )
    size: str | None = Field(None, description="`WIDTHxHEIGHT` in pixels, such as `512x512`")


class ImageReference(BaseModel):
    """An image that is not a file part."""

    image_url: str = Field(description="A data URI (`data:image/png;base64,…`) or an https URL")


class VideoRequest(VideoFields):
    """A video to make, as JSON."""

    input_reference: ImageReference | str = Field(description="The image, or its `image_url` alone")


class VideoError(BaseModel):
    """Why there is no video."""

    code: str = Field(description="The job's, or `cancelled`")
    message: str


class VideoJob(BaseModel):
    """A job in OpenAI's words; times are Unix seconds."""

    id: str = Field(description="The same as the job's under /v1/jobs")
    object: Literal["video"] = "video"
    model: str
    status: Literal["queued", "in_progress", "completed", "failed"] = Field(
        description="A cancelled job is `failed`, with the error `cancelled`"
    )
    progress: int = Field(description="Percent")
    created_at: int
    completed_at: int | None = Field(description="When it ended, however it did")
    expires_at: int | None = Field(description="When the files go; null: with the job")
    error: VideoError | None
    prompt: str
    remixed_from_video_id: None = None
    seconds: str
    size: str


class VideoPage(BaseModel):
    """A list of videos."""

    object: Literal["list"] = "list"
    data: list[VideoJob]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedVideo(BaseModel):
    """That a video is gone."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True
