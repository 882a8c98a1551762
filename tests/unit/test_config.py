"""Settings are refused if they contradict each other."""

import pytest

from service.config import Config, ConfigError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"REDIS_URL": "redis://a:1,redis://b:2"}, "set CRM_REDIS_CLUSTER=true"),
        ({"REDIS_URL": "unix:///s", "REDIS_CLUSTER": "true"}, "cannot be reached by unix"),
        ({"REDIS_URL": "redis://a:1,http://b", "REDIS_CLUSTER": "true"}, "must start with"),
        ({"STORE_COUNTRY": "UK"}, "CRM_STORE_COUNTRY: 'UK' is no country .* such as BD, GB or US"),
        ({"ORDERS_PARTITIONS": "0"}, "CRM_ORDERS_PARTITIONS"),
        (
            {"MAX_EVENT_BYTES": "10000000"},
            "CRM_MAX_HELD_BYTES: must be at least 8 times CRM_MAX_EVENT_BYTES, which is 10,000,000",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    settings: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"CRM_{name}", value)
    with pytest.raises(ConfigError, match=message):
        Config.load()


@pytest.mark.parametrize(("code", "country"), [("", None), ("BD", "BD")])
def test_the_country_of_the_store_is_part_of_its_terms(
    code: str, country: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRM_STORE_COUNTRY", code)
    assert Config.load().terms.country == country
