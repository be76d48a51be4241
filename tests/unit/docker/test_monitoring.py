"""The Grafana dashboard and Prometheus' files: sound, and about metrics that there are."""

import json
import os
import re
import shutil
import subprocess
from collections import defaultdict
from itertools import pairwise

import pytest
import yaml
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from app.metrics import Metrics
from app.settings import FrontEndSettings
from scheduler.records import GpuSample, JobError, Measured
from scheduler.service import Scheduler
from tests.support.fleet import GIB, RESULT, new_job, register_gpu
from tests.unit.docker.parsing import ROOT
from workers.devices import DeviceInfo, DeviceReading
from workers.metrics import HostMetrics
from workers.settings import WorkerSettings

DASHBOARD = json.loads((ROOT / "docker" / "grafana-dashboard.json").read_text())
PROMETHEUS = ROOT / "docker" / "prometheus.yaml"
ALERTS = ROOT / "docker" / "prometheus-alerts.yaml"
CASES = ROOT / "tests" / "unit" / "docker" / "alerts.yaml"
# What Prometheus adds to every series by itself, and the histogram's own.
TARGET_LABELS = {"instance", "job"}
OF_PROMETHEUS = {"up"}
NAME = re.compile(r"\b(reelq_[a-z_]+|process_[a-z_]+|up)\b(?:\{([^}]*)\})?")
LABELS = re.compile(r"\b(?:by|without|on) \(([^)]*)\)")


class Probe:
    def read(self, device_id):
        return DeviceReading(device_id, GIB, 0, GIB, {}, 50.0, 60.0, 200.0, 1000.0)


class Slot:
    device = DeviceInfo("GPU-0", "NVIDIA T4", "Tesla T4", GIB, 0)

    def __init__(self, pid):
        self.pid = pid


def rules():
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def panels():
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries():
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def front_end_text(folder):
    settings = FrontEndSettings(data_dir=folder)
    with Scheduler.open(settings) as scheduler:
        gpu = register_gpu(scheduler)
        look = GpuSample(
            GIB, 23 * GIB, utilization_percent=50.0, temperature_celsius=60.0, power_watts=200.0, foreign_bytes=0
        )
        scheduler.fleet.sample("GPU-0", look)
        for _ in range(3):
            scheduler.queue.submit(new_job())
        scheduler.leases.succeed(gpu.must_claim(), RESULT, Measured(GIB, 1.0))
        scheduler.leases.fail(gpu.must_claim(), JobError("video_error", "no room"))
        metrics = Metrics(scheduler, settings, "1.0", None)
        metrics.traffic.count({"method": "GET"}, 200, 0.1)
        return metrics.text().decode()


def host_text(folder):
    registry = CollectorRegistry(auto_describe=False)
    registry.register(HostMetrics(WorkerSettings(data_dir=folder), Probe(), [Slot(os.getpid())]))
    ProcessCollector(registry=registry)
    return generate_latest(registry).decode()


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """What a front end and a host tell."""
    folder = tmp_path_factory.mktemp("data")
    return front_end_text(folder), host_text(folder)


@pytest.fixture(scope="module")
def exposed(texts):
    """{name: labels} of every series."""
    found = defaultdict(set)
    for text in texts:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[sample.name] |= set(sample.labels)
    return found


def promtool(*arguments, text=None):
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed")
    return subprocess.run([tool, *map(str, arguments)], input=text, capture_output=True, text=True, timeout=60)


def test_every_query_is_of_metrics_that_there_are(exposed):
    seen = set()
    for where, query in queries():
        names = NAME.findall(query)
        assert names, where
        for name, selector in names:
            assert name in exposed or name in OF_PROMETHEUS, (where, name)
            labels = set(re.findall(r"(\w+) *(?:=~|!~|!=|=)", selector))
            assert labels <= exposed[name] | TARGET_LABELS, (where, name, labels)
            seen.add(name)
    assert len(seen) > 35


def test_queries_group_by_labels_that_their_metrics_have(exposed):
    for where, query in queries():
        known = set().union(*(exposed[name] for name, _ in NAME.findall(query))) | TARGET_LABELS
        for listed in LABELS.findall(query):
            assert {label.strip() for label in listed.split(",")} <= known, (where, listed)


def test_every_metric_of_the_service_is_shown_or_watched(exposed):
    """One that nobody looks at is either missing in the dashboard, or not worth its cost."""
    named = {name for _, query in queries() for name, _ in NAME.findall(query)}
    derived = ("_count", "_bucket", "_sum")
    unseen = {name for name in exposed if name.startswith("reelq_") and not name.endswith(derived)} - named
    # Told for queries of one's own: what things are, and what others tell already.
    assert unseen == {
        "reelq_build_info",
        "reelq_device_processes",
        "reelq_device_power_watts",
        "reelq_device_temperature_celsius",
        "reelq_device_utilization_ratio",
        "reelq_gpu_info",
        "reelq_gpu_workers",
    }


def test_the_dashboard_is_whole():
    assert DASHBOARD["uid"] == "reelq"
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    for panel in panels():
        assert panel["title"], panel["id"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    places = sorted(
        (panel["gridPos"]["y"], panel["gridPos"]["x"], panel["gridPos"]["w"]) for panel in DASHBOARD["panels"]
    )
    for (y, x, width), (next_y, next_x, _) in pairwise(places):
        assert x + width <= 24
        assert y != next_y or x + width <= next_x, "two panels overlap"


def test_rules_say_what_is_wrong_and_how_much_it_matters():
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description"}


def test_prometheus_reads_the_rules_that_are_there():
    config = yaml.safe_load(PROMETHEUS.read_text())
    assert config["rule_files"] == [ALERTS.name]
    jobs = {scrape["job_name"] for scrape in config["scrape_configs"]}
    assert jobs == {"reelq", "reelq-worker"}


def test_promtool_accepts_the_files():
    done = promtool("check", "config", PROMETHEUS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_queries_of_the_dashboard(tmp_path):
    queries = [target["expr"] for panel in panels() for target in panel["targets"]]
    recorded = [
        {"record": f"query:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(queries)
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    done = promtool("check", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_metrics(texts):
    for text in texts:
        done = promtool("check", "metrics", text=text)
        problems = [line for line in done.stderr.splitlines() if not line.startswith("process_")]
        assert not problems, done.stderr


def test_every_alert_is_raised_by_what_it_is_for(tmp_path):
    cases = yaml.safe_load(CASES.read_text())
    assert set(re.findall(r'alertname="(\w+)"', CASES.read_text())) == {rule["alert"] for rule in rules()}
    file = tmp_path / "alerts.yaml"
    file.write_text(yaml.safe_dump({**cases, "rule_files": [str(ALERTS)]}))
    done = promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr
