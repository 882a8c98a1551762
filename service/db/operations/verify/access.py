"""Keys and users may do what the audit says (10)."""

from sqlalchemy import text

from service.db.operations.verify.findings import Check

_REMEDY = (
    "Somebody wrote to the table by hand. If you do not know who, revoke the key or disable the "
    "user, and look for what was done in that name in the audit."
)

_KEYS = text("""
SELECT k.id AS key, a.action FROM api_keys k
JOIN audit a ON a.action IN ('key.created', 'key.revoked') AND a.details ->> 'key' = k.id
WHERE a.action = 'key.revoked' AND k.revoked_at IS NULL
   OR a.action = 'key.created'
      AND (a.details ->> 'name' <> k.name OR a.details -> 'scopes' <> to_jsonb(k.scopes))
LIMIT :most
""")
_ROLES = text("""
SELECT u.id AS user, u.role, a.role AS given FROM users u JOIN (
  SELECT DISTINCT ON (details ->> 'user') details ->> 'user' AS id, details ->> 'role' AS role
  FROM audit WHERE action LIKE 'user.%' AND details ? 'role'
  ORDER BY details ->> 'user', audit.id DESC
) a ON a.id = CAST(u.id AS text)
WHERE a.role <> u.role LIMIT :most
""")
# A new password lets a disabled user sign in again.
_DISABLED = text("""
SELECT u.id AS user FROM users u JOIN (
  SELECT DISTINCT ON (details ->> 'user') details ->> 'user' AS id, action
  FROM audit WHERE action IN ('user.disabled', 'user.password-set')
  ORDER BY details ->> 'user', audit.id DESC
) a ON a.id = CAST(u.id AS text)
WHERE a.action = 'user.disabled' AND u.disabled_at IS NULL LIMIT :most
""")

ACCESS = (
    Check("an API key is not the one that the audit says was made or revoked", _REMEDY, _KEYS),
    Check("a user has another role than the audit says", _REMEDY, _ROLES),
    Check("a user who was disabled may sign in again", _REMEDY, _DISABLED),
)
