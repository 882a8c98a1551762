#!/bin/sh
# Start a Redis or Valkey with the users of users.acl, whose passwords are in the environment. Only
# their hashes reach the file, which belongs to this process alone. Arguments are passed on.
#
#   REDIS_SERVICE_PASSWORD=… sh start.sh valkey-server --appendonly yes
set -eu
umask 077
here=$(dirname "$0")
users=${TMPDIR:-/tmp}/users.acl
sed '/^#/d; /^$/d' "$here/users.acl" >"$users"
for name in REDIS_ADMIN_PASSWORD REDIS_SERVICE_PASSWORD REDIS_PUBLISHER_PASSWORD REDIS_SUBSCRIBER_PASSWORD; do
  eval "password=\${$name:-}"
  if [ -n "$password" ]; then
    hash=$(printf %s "$password" | sha256sum | cut -d ' ' -f 1)
    sed "s/<$name>/$hash/" "$users" >"$users.new"
  else  # a user without a password stays out
    sed "/<$name>/d" "$users" >"$users.new"
  fi
  mv "$users.new" "$users"
done
exec "$@" --aclfile "$users"
