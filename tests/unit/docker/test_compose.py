"""compose.yaml: valid, closed to the outside, and keeping what must survive on volumes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.unit.docker.parsing import ROOT, environment, image_instructions, parse_stages

COMPOSE = ROOT / "docker" / "compose.yaml"
REQUIRED = re.compile(r"\$\{[A-Z_]+:\?[^}]+\}")


def mounts(service):
    """Return {path in the container: volume} of a service."""
    return {target: volume for volume, target in (v.split(":")[:2] for v in service["volumes"])}


def image_of(name):
    """Return the instructions that make the image of a service built here."""
    return image_instructions(parse_stages((ROOT / "docker" / f"{name}.Dockerfile").read_text()))


def check_schema(path):
    # The schema comes with the package: a proxy that nobody serves proves that nothing is fetched.
    env = {**os.environ, "https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    arguments = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True, timeout=60)


def test_follows_the_compose_specification(tmp_path):
    result = check_schema(COMPOSE)
    assert result.returncode == 0, result.stdout + result.stderr
    broken = tmp_path / "compose.yaml"
    broken.write_text(COMPOSE.read_text().replace("stop_grace_period", "stop_grace_perid"))
    assert check_schema(broken).returncode != 0


def test_builds_from_this_checkout(compose):
    for name in ("frontend", "worker"):
        build = compose["services"][name]["build"]
        assert (COMPOSE.parent / build["context"]).resolve() == ROOT
        assert build["dockerfile"] == f"docker/{name}.Dockerfile"


def test_only_loopback_is_published(compose):
    published = {name: service.get("ports", []) for name, service in compose["services"].items()}
    assert published.pop("frontend") == ["127.0.0.1:${PUBLISHED_PORT:-8000}:8000"]
    assert published.pop("prometheus") == ["127.0.0.1:${PROMETHEUS_PORT:-9090}:9090"]
    assert published.pop("grafana") == ["127.0.0.1:${GRAFANA_PORT:-3000}:3000"]
    assert not any(published.values())
    assert environment(image_of("frontend"))["REELQ_PORT"] == "8000"
    assert compose["services"]["database"]["networks"] == ["database"]
    assert compose["networks"]["database"] == {"internal": True}


def test_no_password_is_written_down(compose):
    seen = 0
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|_KEY", name):
                assert REQUIRED.fullmatch(value), name
                seen += 1
            for password in re.findall(r"://[^:/@\s]+:(.+)@", value):
                assert REQUIRED.fullmatch(password), name
                seen += 1
    assert seen == 3
    example = (ROOT / "docker" / ".env.example").read_text()
    assert re.search("^POSTGRES_PASSWORD=$", example, re.MULTILINE)


def test_every_variable_without_a_default_is_in_the_example():
    example = (ROOT / "docker" / ".env.example").read_text()
    for name in re.findall(r"\$\{([A-Z_]+)", COMPOSE.read_text()):
        assert re.search(rf"^#?{name}=", example, re.MULTILINE), name


def test_services_cannot_gain_rights(compose):
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert any(mount.split(":")[0] == "/tmp" for mount in service["tmpfs"]), name
    for name in ("frontend", "worker", "prometheus", "grafana"):
        assert compose["services"][name]["cap_drop"] == ["ALL"]


def test_volumes_are_declared_and_used(compose):
    used = {volume for service in compose["services"].values() for volume in mounts(service).values()}
    assert used == set(compose["volumes"])


@pytest.mark.parametrize("name", ["frontend", "worker"])
def test_what_must_survive_lies_on_a_volume(compose, name):
    service = compose["services"][name]
    env = environment(image_of(name)) | service["environment"]
    on_volumes = mounts(service)
    assert on_volumes[env["REELQ_BLOB_URL"].removeprefix("file://")] == "blobs"
    assert env["REELQ_DATA_DIR"] in on_volumes
    assert env.get("HF_HOME", "/data") in on_volumes


def test_front_end_and_worker_share_one_database_and_blob_store(compose):
    front, worker = (compose["services"][name]["environment"] for name in ("frontend", "worker"))
    for setting in ("REELQ_DATABASE_URL", "REELQ_BLOB_URL"):
        assert front[setting] == worker[setting]
    assert front["REELQ_DATABASE_URL"].startswith("postgresql+psycopg://")
    assert "@database:5432/" in front["REELQ_DATABASE_URL"]


def test_database_keeps_its_data(compose):
    database = compose["services"]["database"]
    name, tag = database["image"].split(":")
    assert (name, int(tag.split("-")[0])) == ("postgres", 18)
    # From version 18 on the image's data is below this folder, not in its `data`.
    assert "/var/lib/postgresql" in mounts(database)


def test_nothing_waits_for_a_health_check_that_is_not_there(compose):
    waits = 0
    for service in compose["services"].values():
        for needed, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            in_compose = "healthcheck" in compose["services"][needed]
            assert in_compose or any(i.name == "HEALTHCHECK" for i in image_of(needed))
            waits += 1
    assert waits == 3


def test_worker_gets_the_gpus_and_time_to_checkpoint(compose):
    worker = compose["services"]["worker"]
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert worker["stop_grace_period"] == "2m"


def configured(compose, name):
    """Return {path in the container: file of the checkout} of a service's configuration."""
    sources = {source: COMPOSE.parent / config["file"] for source, config in compose["configs"].items()}
    return {one["target"]: sources[one["source"]] for one in compose["services"][name]["configs"]}


def test_only_who_asks_for_monitoring_gets_it(compose):
    profiles = {name: service.get("profiles") for name, service in compose["services"].items()}
    assert {name for name, listed in profiles.items() if listed} == {"prometheus", "grafana"}
    assert profiles["prometheus"] == profiles["grafana"] == ["monitoring"]
    for name in ("prometheus", "grafana"):
        assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", compose["services"][name]["image"])
        assert compose["services"][name]["networks"] == ["default"]  # not the database's


def test_every_configuration_is_a_file_that_is_there_and_used(compose):
    files = [*configured(compose, "prometheus").values(), *configured(compose, "grafana").values()]
    assert all(file.is_file() for file in files)
    assert len(files) == len(compose["configs"])


def test_prometheus_finds_its_rules_and_everything_that_tells(compose):
    service, found = compose["services"]["prometheus"], configured(compose, "prometheus")
    options = dict(option.removeprefix("--").split("=") for option in service["command"])
    config = yaml.safe_load(found[options["config.file"]].read_text())
    folder = Path(options["config.file"]).parent
    assert all(str(folder / rules) in found for rules in config["rule_files"])
    assert options["storage.tsdb.path"] in mounts(service)
    targets = {target for job in config["scrape_configs"] for one in job["static_configs"] for target in one["targets"]}
    worker = compose["services"]["worker"]["environment"]
    port = environment(image_of("frontend"))["REELQ_PORT"]
    assert targets == {f"frontend:{port}", f"worker:{worker['REELQ_METRICS_PORT']}"}
    assert worker["REELQ_METRICS_HOST"] == "0.0.0.0"  # noqa: S104  in its container


def test_grafana_finds_prometheus_and_the_dashboard_and_lets_nobody_in_who_could_change_them(compose):
    service, found = compose["services"]["grafana"], configured(compose, "grafana")
    provisioning = Path("/etc/grafana/provisioning")
    (source,) = yaml.safe_load(found[str(provisioning / "datasources" / "reelq.yaml")].read_text())["datasources"]
    assert (source["type"], source["url"], source["isDefault"]) == ("prometheus", "http://prometheus:9090", True)
    (provider,) = yaml.safe_load(found[str(provisioning / "dashboards" / "reelq.yaml")].read_text())["providers"]
    settings = service["environment"]
    home = settings["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert str(Path(home).parent) == provider["options"]["path"]
    assert json.loads(found[home].read_text())["uid"] == "reelq"
    assert settings["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == settings["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert settings["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
