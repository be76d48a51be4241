"""The numerical guard: where numbers stop being finite, the stage is done again in a safer precision.

I2VGen-XL in float16 is known to overflow, in the VAE first. So a decode that gives no picture is done again with the
VAE in float32; latents that are not finite are taken back to the last good step, and the UNet goes on in bfloat16, with
the range of float32. What is unsound after that is a `NumericalFailure`. A float32 plan has nothing safer.

A video may be black because it should be: one that still is after the VAE ran in float32 is taken as it is.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from scheduler.plans import PLANS, Precision
from workers.attempt import Attempt
from workers.failures import NumericalFailure

if TYPE_CHECKING:
    import numpy as np

    from workers.pipelines.i2vgen_xl import I2VGenXL

VAE, UNET = "vae", "unet"

Tell = Callable[[Attempt, str], None]


class Guard:
    """Runs the stages of attempts and finds safer ways; `tell` puts a notice on the job."""

    def __init__(self, model: "I2VGenXL", tell: Tell) -> None:
        self._model = model
        self._tell = tell

    def encode(self, attempt: Attempt) -> None:
        """Encode prompt and image; conditioning that is not finite is made again with the VAE in float32."""
        from workers.pipelines import safety

        run = attempt.must_run
        if VAE not in attempt.safer:
            run.encode()
            if run.is_sound():
                return
            self._safer(attempt, VAE, "the encoded image is not finite; it was encoded again with the VAE in float32")
        safety.encode(self._model, run)
        if not run.is_sound():
            raise NumericalFailure("the encoded prompt or image is not finite")

    def rewind(self, attempt: Attempt) -> None:
        """Take an attempt whose latents went bad back to its last good step, to go on with the UNet in bfloat16."""
        message = f"the latents were not finite after step {attempt.done + 1}; from there the UNet runs in bfloat16"
        self._safer(attempt, UNET, message)
        good = attempt.must_run.snapshot()
        attempt.must_run.rewind(good)
        attempt.done = good.step

    def decode(self, attempt: Attempt) -> "Iterator[np.ndarray]":
        """The frames; raises what `again` can mend."""
        from workers.pipelines import safety

        return safety.decode(attempt.must_run, safe=VAE in attempt.safer or not _is_half(attempt))

    def again(self, attempt: Attempt, why: Exception) -> None:
        """Repair a decode that gave no picture: the VAE in float32, then all steps in bfloat16.

        The attempt is then to go on with the step its run is at. Raises `NumericalFailure`.
        """
        if VAE not in attempt.safer:
            self._safer(attempt, VAE, f"{why}; decoded again with the VAE in float32")
            return
        self._safer(attempt, UNET, f"{why}, with the VAE in float32 too; all steps are done again in bfloat16")
        attempt.must_run.rewind(None)
        attempt.done = 0

    def _safer(self, attempt: Attempt, part: str, message: str) -> None:
        if part in attempt.safer or not _is_half(attempt):
            raise NumericalFailure(message.partition(";")[0])
        attempt.safer |= {part}
        attempt.log.warning("numerical fallback", part=part, reason=message)
        self._tell(attempt, message)


def _is_half(attempt: Attempt) -> bool:
    return PLANS[attempt.lease.plan].precision is not Precision.FLOAT32
