"""Tracing is switched on and off by the standard OTEL variables."""

import pytest

from service import tracing
from service.config import ConfigError


def test_an_endpoint_without_the_otel_extra_is_an_error_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(ConfigError, match=r"recovery-essentials-crm\[otel\]"):
        tracing.set_up("crm-test")
    assert not tracing.on()


@pytest.mark.parametrize(
    ("name", "value"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")]
)
def test_the_otel_variables_switch_tracing_off(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")
    monkeypatch.setenv(name, value)
    tracing.set_up("crm-test")
    assert not tracing.on()
