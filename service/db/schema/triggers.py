"""Triggers for processes of the release before, and the one that ends local mode."""

from sqlalchemy import (
    Connection,
    MetaData,
    event,
)

from service.db.counting import COUNTING, counts_sql
from service.db.schema.accounts import api_keys, users
from service.db.schema.base import metadata
from service.db.search_text import MARK

# A trigger, because the statement that makes a credential may be anybody's: a worker of the release
# before, or a person with psql. It runs with the rights of the tables' owner, so that none of them
# needs the right to change `installation`.
_END_LOCAL_MODE = """
CREATE FUNCTION end_local_mode() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  EXECUTE format(
    'UPDATE %I.installation SET sign_in_since = now() WHERE sign_in_since IS NULL', TG_TABLE_SCHEMA
  );
  RETURN NULL;
END $$
"""
_ON_FIRST_CREDENTIAL = """
CREATE TRIGGER end_local_mode AFTER INSERT ON {}
FOR EACH STATEMENT EXECUTE FUNCTION end_local_mode()
"""


# Processes of the release before know customers by `email_key` alone. While they run beside this
# release, a trigger tells `identifiers` what they do. If another customer has the identifier, the
# two are merged. Connections of this release set `crm.identifiers`, so that it costs them nothing.
_TAKE_OVER_EMAIL = """
CREATE FUNCTION take_over_email() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  owner bigint;
BEGIN
  EXECUTE format(
    'INSERT INTO %I.identifiers AS i (identifier, customer_id) VALUES ($1, $2)'
    ' ON CONFLICT (identifier) DO UPDATE SET since = i.since RETURNING customer_id', TG_TABLE_SCHEMA
  ) INTO owner USING 'email:' || NEW.email_key, NEW.id;
  IF owner <> NEW.id THEN
    EXECUTE format(
      'INSERT INTO %I.pending_merges (low, high) VALUES ($1, $2) ON CONFLICT DO NOTHING',
      TG_TABLE_SCHEMA
    ) USING least(owner, NEW.id), greatest(owner, NEW.id);
  END IF;
  RETURN NULL;
END $$
"""
_ON_EMAIL = """
CREATE TRIGGER take_over_email AFTER INSERT OR UPDATE OF email_key ON customers FOR EACH ROW
WHEN (new.email_key IS NOT NULL
      AND current_setting('crm.identifiers', true) IS DISTINCT FROM 'written')
EXECUTE FUNCTION take_over_email()
"""
# A worker of the release before re-points an order without a word of what named the customer.
_FORGET_IDENTIFIER = """
CREATE FUNCTION forget_identifier() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.identifier = NULL;
  NEW.other_identifier = NULL;
  RETURN NEW;
END $$
"""
_ON_OWNER = """
CREATE TRIGGER forget_identifier BEFORE UPDATE OF customer_id ON orders FOR EACH ROW
WHEN (old.customer_id IS DISTINCT FROM new.customer_id
      AND current_setting('crm.identifiers', true) IS DISTINCT FROM 'written')
EXECUTE FUNCTION forget_identifier()
"""
# When a process of the release before erases a person, nobody else knows that their e-mail is free.
_FORGET_CUSTOMER = """
CREATE FUNCTION forget_customer() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  EXECUTE format('DELETE FROM %I.identifiers WHERE customer_id = $1', TG_TABLE_SCHEMA)
    USING OLD.id;
  EXECUTE format('DELETE FROM %I.pending_merges WHERE $1 IN (low, high)', TG_TABLE_SCHEMA)
    USING OLD.id;
  EXECUTE format('DELETE FROM %I.separations WHERE $1 IN (low, high)', TG_TABLE_SCHEMA)
    USING OLD.id;
  RETURN NULL;
END $$
"""
_ON_DELETE = """
CREATE TRIGGER forget_customer AFTER DELETE ON customers FOR EACH ROW
WHEN (current_setting('crm.identifiers', true) IS DISTINCT FROM 'written')
EXECUTE FUNCTION forget_customer()
"""
# A worker of the release before does not know what counts, and leaves the new parts of a key alone.
_COUNT_ORDER = f"""
CREATE FUNCTION count_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' THEN
    IF NEW.event_id <> OLD.event_id THEN
      NEW.sent_at = NULL;
      NEW.currency = NULL;
      NEW.exchange_rate = NULL;
    END IF;
    IF NEW.named_event_id IS DISTINCT FROM OLD.named_event_id THEN
      NEW.named_sent_at = NULL;
    END IF;
    IF NEW.refunded <> OLD.refunded THEN
      NEW.most_refunded = GREATEST(OLD.most_refunded, OLD.refunded);
      IF NEW.most_refunded <= NEW.refunded THEN
        NEW.most_refunded = NULL;
      END IF;
    END IF;
  END IF;
  IF TG_OP = 'INSERT' OR (NEW.status, NEW.payment_status, NEW.total, NEW.refunded)
     IS DISTINCT FROM (OLD.status, OLD.payment_status, OLD.total, OLD.refunded) THEN
    SELECT {counts_sql()} INTO NEW.counts
    FROM (SELECT NEW.status, NEW.payment_status, NEW.total, NEW.refunded) o, ({COUNTING}) counting;
  END IF;
  RETURN NEW;
END $$
"""
_ON_ORDER = """
CREATE TRIGGER count_order BEFORE INSERT OR UPDATE ON orders FOR EACH ROW
WHEN (current_setting('crm.identifiers', true) IS DISTINCT FROM 'written')
EXECUTE FUNCTION count_order()
"""
# Processes of the release before do not write the text that searches read when a customer gets an
# identifier, or another postal code. A worker writes it once it has no mark.
_SEARCH_AGAIN = rf"""
CREATE FUNCTION search_again() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  EXECUTE format(
    'UPDATE %I.customer_search SET searched = rtrim(searched, $2) WHERE customer_id = $1',
    TG_TABLE_SCHEMA
  ) USING CAST(to_jsonb(coalesce(NEW, OLD)) ->> TG_ARGV[0] AS bigint), E'{MARK}';
  RETURN NULL;
END $$
"""
_ON_IDENTIFIER = """
CREATE TRIGGER search_again AFTER INSERT OR DELETE OR UPDATE ON identifiers FOR EACH ROW
WHEN (current_setting('crm.search', true) IS DISTINCT FROM 'written')
EXECUTE FUNCTION search_again('customer_id')
"""
_ON_ADDRESS = """
CREATE TRIGGER search_again AFTER UPDATE OF address ON customers FOR EACH ROW
WHEN (current_setting('crm.search', true) IS DISTINCT FROM 'written'
      AND old.address IS DISTINCT FROM new.address)
EXECUTE FUNCTION search_again('id')
"""
_TRIGGERS = (
    _COUNT_ORDER,
    _ON_ORDER,
    _TAKE_OVER_EMAIL,
    _ON_EMAIL,
    _FORGET_IDENTIFIER,
    _ON_OWNER,
    _FORGET_CUSTOMER,
    _ON_DELETE,
    _SEARCH_AGAIN,
    _ON_IDENTIFIER,
    _ON_ADDRESS,
)


@event.listens_for(metadata, "after_create")
def create_triggers(_metadata: MetaData, connection: Connection, **_options: object) -> None:
    """Create the triggers once the tables are there."""
    for statement in _TRIGGERS:
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql(_END_LOCAL_MODE)
    for table in (users, api_keys):
        connection.exec_driver_sql(_ON_FIRST_CREDENTIAL.format(table.name))
