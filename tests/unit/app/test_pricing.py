"""The prices of GPUs, from the environment and from a file."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import FrontEndSettings
from scheduler.prices import Price, Prices, Terms, cost, kwh

SPOT = '{"NVIDIA L4": {"hour": 0.8, "terms": "spot"}}'


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_settings_nothing_has_a_price() -> None:
    assert FrontEndSettings().prices == Prices()


def test_the_environment_has_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELQ_GPU_PRICES", SPOT)
    monkeypatch.setenv("REELQ_GPU_HOUR_COST", "0.5")
    monkeypatch.setenv("REELQ_ENERGY_KWH_COST", "0.3")
    assert FrontEndSettings().prices == Prices(Price(0.5), {"NVIDIA L4": Price(0.8, Terms.SPOT)}, 0.3)


def test_a_file_has_tables_and_child_processes_get_them(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / "reelq.toml").write_text(
        '[frontend.gpu_prices]\n"NVIDIA L4" = {hour = 0.8, terms = "spot"}\nlab = {hour = 0}\n'
    )
    settings = FrontEndSettings()
    assert settings.prices.gpus == {"NVIDIA L4": Price(0.8, Terms.SPOT), "lab": Price(0.0)}
    (elsewhere / "reelq.toml").unlink()
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert FrontEndSettings().prices == settings.prices


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0.8", "object"),
        ("{", "JSON"),
        ('{"a": {"hour": -1}}', "a.hour"),
        ('{"a": {"hour": "NaN"}}', "a.hour"),
        ('{"a": {"terms": "spot"}}', "a.hour"),
        ('{"a": {"hour": 1, "terms": "rented"}}', "a.terms"),
        ('{"a": {"hour": 1, "per": "GPU"}}', "a.per"),
    ],
)
def test_a_price_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str, words: str) -> None:
    monkeypatch.setenv("REELQ_GPU_PRICES", text)
    with pytest.raises(ValidationError, match=words):
        FrontEndSettings()


def test_what_time_and_energy_cost() -> None:
    assert cost(Price(0.8), 1800.0) == pytest.approx(0.4)
    assert cost(None, 1800.0) is None
    assert kwh(1_800_000.0) == 0.5
    assert Prices(energy_kwh=0.3).energy(1_800_000.0) == pytest.approx(0.15)
    assert Prices(energy_kwh=0.3).energy(None) is None
    assert Prices().energy(1.0) is None


def test_a_sum_is_known_when_all_of_it_is() -> None:
    prices = Prices(Price(1.0))
    assert prices.total([1.0, 2.0]) == 3.0
    assert prices.total([1.0, None, 2.0]) is None
    assert prices.total([]) == 0.0
    assert Prices().total([]) is None
