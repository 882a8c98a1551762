"""The words that staff read for the codes that the service stores: causes, reasons, actions."""

from service.core.customer_ids import customer_ref
from service.core.hooks import DeliveryOutcome
from service.core.identifiers import IdentifierKind, kind_of, source_and_id, value_of
from service.core.import_states import ImportState
from service.core.order_event import Reason
from service.core.order_flags import OrderFlag
from service.core.segment_event import Cause
from service.db.customers.customer_row import CustomerRow

CAUSES = {
    Cause.ORDER: "because of an order",
    Cause.TIME: "because time passed",
    Cause.MANUAL: "by hand",
    Cause.RULES: "because the rules were changed",
    Cause.REBUILD: "after a recalculation",
    Cause.IDENTITY: "because customers were merged or split",
    Cause.ENTRY: "when they were entered",
    Cause.IMPORT: "because a file was imported",
}
"""Why a segment changed. It follows the segment's name."""

ALIKE = {
    "same_phone": "Same phone",
    "same_name_and_zip": "Same name and postal code",
    "too_many_identifiers": "Orders say they are one person, but one has very many e-mails or IDs",
}
"""Why two customers may be one person."""

IDENTIFIERS = {
    IdentifierKind.EMAIL: "E-mail",
    IdentifierKind.PHONE: "Phone",
    IdentifierKind.EXTERNAL: "ID in another system",
    IdentifierKind.CUSTOMER: "Merged customer",
}

INTERACTIONS = {"call": "Call", "email": "E-mail", "meeting": "Meeting", "note": "Note"}

FLAGS = {
    OrderFlag.REFUND_EXCEEDS_TOTAL: "More was refunded than the order's total.",
    OrderFlag.REFUND_FELL: "An earlier message told of a greater refund.",
    OrderFlag.CONFLICT: "Two events contradict each other.",
    OrderFlag.UPDATE_REFUSED: "An update was refused, so this may be an older state.",
}
"""What is strange about an order, in a sentence."""
REASONS = {
    Reason.TOO_LARGE: "Too large",
    Reason.NO_DATA_FIELD: "No data field",
    Reason.INVALID_UTF8: "Not UTF-8 text",
    Reason.NOT_JSON: "Not JSON",
    Reason.NOT_AN_OBJECT: "Not a JSON object",
    Reason.UNKNOWN_TYPE: "Unknown event type",
    Reason.UNSUPPORTED_VERSION: "Unsupported version",
    Reason.MISSING_FIELD: "Missing field",
    Reason.INVALID_FIELD: "Invalid field",
    Reason.INVALID_TEXT: "Invalid text",
    Reason.INVALID_AMOUNT: "Invalid amount",
    Reason.INVALID_TIME: "Invalid time",
    Reason.INVALID_EMAIL: "Invalid e-mail",
    Reason.INVALID_CURRENCY: "Invalid currency",
    Reason.NOT_APPLICABLE: "Refused by the database",
    Reason.TOO_MANY_DELIVERIES: "Crashed every worker",
    Reason.CURRENCY_MISMATCH: "Other currency: retry it",
    Reason.REFUND_EXCEEDS_TOTAL: "Refund above total: retry it",
}
"""Why an entry became a dead letter."""

OUTCOMES = {
    DeliveryOutcome.PUBLISHED: "taken in",
    DeliveryOutcome.APPLIED: "taken in",
    DeliveryOutcome.IGNORED: "with nothing to keep",
    DeliveryOutcome.DEAD_LETTERED: "unreadable, among the dead letters",
    DeliveryOutcome.WRONG_SIGNATURE: "with a wrong signature",
    DeliveryOutcome.OTHER_SHOP: "of another shop",
    DeliveryOutcome.TOO_OLD: "too old to be done",
    DeliveryOutcome.UNAVAILABLE: "refused while a server was away",
}
"""What became of a webhook's deliveries."""

ACTIONS = {
    "customer.created": "Customer added",
    "customer.updated": "Customer edited",
    "customer.erased": "Customer deleted",
    "customer.merged": "Customers merged",
    "customer.split": "Customer split into two people",
    "customer.tagged": "Tags changed",
    "customers.tagged": "Tag changed for many customers",
    "customers.tagging-undone": "Change of a tag undone for many customers",
    "view.created": "View saved",
    "view.updated": "View changed",
    "view.deleted": "View deleted",
    "tag.renamed": "Tag renamed",
    "tag.merged": "Tags merged",
    "tag.deleted": "Tag deleted",
    "field.created": "Own field added",
    "field.changed": "Own field changed",
    "field.deleted": "Own field deleted",
    "customers.separated": "Marked as two people",
    "customers.exported": "Customers exported",
    "identifier.added": "Identifier added",
    "identifier.removed": "Identifier removed",
    "identifier.marked": "Marked as not a person",
    "identifier.unmarked": "No longer marked as not a person",
    "order.assigned": "Order assigned by hand",
    "order.unassigned": "Order no longer assigned by hand",
    "interaction.updated": "Interaction corrected",
    "interaction.removed": "Interaction removed",
    "identifier.restored": "Identifier taken back",
    "interaction.restored": "Interaction taken back",
    "settings.updated": "Settings changed",
    "dead-letter.replayed": "Dead letters retried",
    "dead-letter.discarded": "Dead letter discarded",
    "dead-letters.discarded": "Dead letters discarded",
    "dead-letters.dropped": "Oldest dead letters dropped",
    "list.contacted": "Work list marked as contacted",
    "file.imported": "File imported",
    "loss.acknowledged": "Loss acknowledged",
    "rebuild.applied": "Figures recalculated",
    "verify.accepted": "Changed records accepted as right",
    "user.added": "User added",
    "user.role-set": "Role of a user changed",
    "user.password-set": "Password of a user changed",
    "user.disabled": "User disabled",
    "user.signed-in": "Sign-in",
    "user.signed-out": "Sign-out",
    "user.sign-in-failed": "Failed sign-in",
    "key.created": "API key created",
    "key.revoked": "API key revoked",
    "hook.created": "Webhooks of a shop added",
    "hook.rotated": "Secret of a shop's webhooks changed",
    "hook.removed": "Webhooks of a shop removed",
    "endpoint.added": "Endpoint for webhooks added",
    "endpoint.changed": "Endpoint for webhooks changed",
    "endpoint.secret_renewed": "Secret of an endpoint changed",
    "endpoint.paused": "Endpoint for webhooks paused",
    "endpoint.resumed": "Endpoint for webhooks resumed",
    "endpoint.replayed": "Events sent to an endpoint again",
    "endpoint.removed": "Endpoint for webhooks removed",
    "shop-request.erasure-started": "Erasure of a shop's customers started",
    "shop-request.closed": "Request of a shop marked as done",
}
"""What somebody did, for each action of the audit log. "by jane@example.com" may follow."""


IMPORT_STATES = {
    ImportState.UPLOADING: "arriving",
    ImportState.PREVIEWING: "being read",
    ImportState.READY: "not imported yet",
    ImportState.IMPORTING: "being imported",
    ImportState.DONE: "imported",
    ImportState.FAILED: "failed",
    ImportState.STOPPED: "stopped",
}
"""Where an import stands."""


def import_state(code: str) -> str:
    """Write where an import stands."""
    return IMPORT_STATES[ImportState(code)]


def size_of(size: int) -> str:
    """Write the size of a file, roughly."""
    for unit, bytes_of in (("MB", 1_000_000), ("kB", 1000)):
        if size >= bytes_of:
            return f"{size / bytes_of:.1f} {unit}".replace(".0 ", " ")
    return f"{size} bytes"


def called(customer: CustomerRow) -> str:
    """Return what people call a customer by: name, e-mail, phone, or else the id."""
    return customer.name or customer.email or customer.phone or customer_ref(customer.id)


def identifier_kind(identifier: str) -> str:
    """Write what an identifier is, and of which system an id of another system is."""
    kind = kind_of(identifier)
    if kind is IdentifierKind.EXTERNAL:
        return f"ID in {source_and_id(identifier)[0]}"
    return IDENTIFIERS[kind]


def identifier_value(identifier: str) -> str:
    """Write an identifier without what it is."""
    kind = kind_of(identifier)
    if kind is IdentifierKind.EXTERNAL:
        return source_and_id(identifier)[1]
    if kind is IdentifierKind.CUSTOMER:
        return customer_ref(int(value_of(identifier)))
    return value_of(identifier)


def status(code: str) -> str:
    """Write the status of an order or of its payment."""
    return "partly refunded" if code == "partially_refunded" else code.replace("_", " ")


def flag(code: str) -> str:
    """Write what is strange about an order."""
    return FLAGS[OrderFlag(code)]


def reason(code: str) -> str:
    """Write why an entry was refused. A code that only an older release knew is shown as it is."""
    return REASONS[Reason(code)] if code in set(Reason) else code.replace("_", " ")


def outcome(code: str) -> str:
    """Write what became of a webhook's deliveries."""
    return OUTCOMES[DeliveryOutcome(code)]


def action(code: str) -> str:
    """Write what somebody did. A code that only an older release knew is shown as it is."""
    return ACTIONS.get(code) or code.replace(".", " ").replace("-", " ").capitalize()


def sentence(text: str) -> str:
    """Write a stored error, which begins in lower case, with a capital letter."""
    return text[:1].upper() + text[1:]


def by(actor: str) -> str:
    """Write who did something, such as "by jane@example.com". Empty for nobody."""
    if actor == "nobody":
        return ""
    return f"by {person(actor)}"


def person(actor: str) -> str:
    """Write an actor's name for people."""
    if actor == "local":
        return "the local user"
    kind, _, name = actor.partition(":")
    if kind == "hook":
        return f"{name.partition(' ')[2]} (webhook)"
    return f"{name} (command line)" if kind == "cli" else actor
