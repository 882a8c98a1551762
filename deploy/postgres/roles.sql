-- The roles of the service, with no more rights than each one needs:
--
--   crm         owns the tables. For `crm migrate` only
--   crm_worker  reads and writes rows. For workers, and for all other commands
--   crm_web     reads rows, and writes those that a web process writes
--   crm_verify  reads rows, and notes the result of `crm verify`
--
-- Only `crm` may create, alter, truncate or drop anything. What crm_web and crm_verify may write is
-- in service/db/grants.py. `crm migrate` grants it, because it knows the tables of its release.
--
-- Run this file in the service's database, as a role that may create roles:
--
--   psql --dbname=crm --set=ON_ERROR_STOP=1 --single-transaction --file=roles.sql
--
-- It gives no passwords. Set them in psql, which sends only their hashes: \password crm_worker
-- Then run `crm migrate`. Running the file again changes nothing.

DO $$
DECLARE
  role text;
BEGIN
  FOREACH role IN ARRAY ARRAY['crm', 'crm_worker', 'crm_web', 'crm_verify'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
      EXECUTE format('CREATE ROLE %I LOGIN', role);
    END IF;
  END LOOP;

  -- An administrator who is no superuser may act for `crm` only as a member of it.
  IF NOT pg_has_role('crm', 'SET') THEN
    GRANT crm TO CURRENT_USER;
  END IF;

  -- The owner of the database may create tables in it, and the extension pg_trgm.
  EXECUTE format('ALTER DATABASE %I OWNER TO crm', current_database());
  EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
  EXECUTE format(
    'GRANT CONNECT ON DATABASE %I TO crm_worker, crm_web, crm_verify', current_database());
  -- `crm verify` applies events again to copies of a sample. Workers' pods run it, too, by hand.
  EXECUTE format(
    'GRANT TEMPORARY ON DATABASE %I TO crm_verify, crm_worker', current_database());
END
$$;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO crm_worker, crm_web, crm_verify;

-- Tables and sequences that `crm migrate` will create, and those that are there already.
ALTER DEFAULT PRIVILEGES FOR ROLE crm IN SCHEMA public
  GRANT SELECT ON TABLES TO crm_worker, crm_web, crm_verify;
ALTER DEFAULT PRIVILEGES FOR ROLE crm IN SCHEMA public
  GRANT INSERT, UPDATE, DELETE ON TABLES TO crm_worker;
ALTER DEFAULT PRIVILEGES FOR ROLE crm IN SCHEMA public
  GRANT USAGE, SELECT, UPDATE ON SEQUENCES TO crm_worker;
ALTER DEFAULT PRIVILEGES FOR ROLE crm IN SCHEMA public
  GRANT SELECT ON SEQUENCES TO crm_verify;
GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO crm_worker;
GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO crm_worker;
GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO crm_verify;

-- A table with secrets is read by one role only. `crm migrate` lets the others read a few of its
-- columns, and that stays so.
DO $$
DECLARE
  each record;
BEGIN
  FOR each IN
    SELECT c.oid::regclass AS "table", r.rolname AS role FROM pg_class c, pg_roles r
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
      AND r.rolname IN ('crm_worker', 'crm_web', 'crm_verify')
      AND NOT EXISTS (
        SELECT FROM pg_attribute a, aclexplode(a.attacl) g
        WHERE a.attrelid = c.oid AND g.grantee = r.oid AND g.privilege_type = 'SELECT')
  LOOP
    EXECUTE format('GRANT SELECT ON %s TO %I', each."table", each.role);
  END LOOP;
END
$$;
