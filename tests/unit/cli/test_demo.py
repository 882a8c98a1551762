"""`crm demo` chooses the stream of an order."""

from service.cli.demo import stream_for
from service.config import Config
from tests.events import fields


def test_the_demo_publishes_where_order_management_would() -> None:
    one, eight = (Config(orders_partitions=n) for n in (1, 8))
    entry = {"data": fields("ORD-1", email="jane@example.com")[b"data"]}
    assert [stream_for(config, entry) for config in (one, eight)] == ["orders", "orders:{4}"]
    for broken in ({"data": b"{"}, {"data": b"[]"}, {"data": b'{"data": 1}'}, {"other": b""}):
        assert stream_for(eight, broken) == "orders"
