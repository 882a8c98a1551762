#!/bin/sh
# Runs once, when Compose creates the database: the roles of roles.sql, with passwords from .env.
# In a subshell, because the image reads this file into its own shell.
(
set -eu
psql --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" --quiet \
     --single-transaction --file="${ROLES_FILE:-/crm/roles.sql}"
psql --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" --quiet \
     --set=owner="$OWNER_PASSWORD" --set=worker="$WORKER_PASSWORD" \
     --set=web="$WEB_PASSWORD" --set=verify="$VERIFY_PASSWORD" <<'SQL'
ALTER ROLE crm PASSWORD :'owner';
ALTER ROLE crm_worker PASSWORD :'worker';
ALTER ROLE crm_web PASSWORD :'web';
ALTER ROLE crm_verify PASSWORD :'verify';
SQL
) || exit 1
