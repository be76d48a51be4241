"""What holds for every test: figures that tests record are shown at the end of the run."""

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print each recorded figure: measured on the way, compared with nothing here."""
    reports = terminalreporter.stats.get("passed", [])
    figures = [value for report in reports for name, value in report.user_properties if name == "figure"]
    if figures:
        terminalreporter.section("figures")
        for figure in figures:
            terminalreporter.line(str(figure))
