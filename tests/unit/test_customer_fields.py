"""What an event tells of a customer can be seen, edited, exported and imported everywhere.

A register that is forgotten in one of these places would be stored, and show nowhere.
"""

import pytest

from service.core.order_contract import CustomerData
from service.core.order_event import REGISTERS, EventCustomer
from service.db.customers.customer_row import EDITABLE, CustomerRow
from service.db.schema import customers
from service.http.api.customer_json import Customer, CustomerPatch, NewCustomer
from service.http.dashboard.customer_form import FIELDS
from service.transfer.customer_lines import CustomerLine
from service.transfer.export import COLUMNS

TEXTS = [register for register in REGISTERS if register != "address"]


@pytest.mark.parametrize("register", REGISTERS)
def test_a_register_is_read_stored_shown_and_edited(register: str) -> None:
    assert register in EventCustomer.__struct_fields__
    assert {register, f"{register}_at", f"{register}_event"} <= set(customers.columns.keys())
    assert register in CustomerRow.__dataclass_fields__
    assert register in EDITABLE
    for model in (Customer, CustomerPatch, NewCustomer):
        assert register in model.model_fields


@pytest.mark.parametrize("register", TEXTS)
def test_a_text_is_in_the_event_the_form_and_the_files(register: str) -> None:
    assert register in CustomerData.__annotations__
    assert register in FIELDS
    assert register in CustomerLine._fields
    assert register.replace("_", " ").title() in COLUMNS
