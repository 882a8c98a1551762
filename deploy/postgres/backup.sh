#!/bin/sh
# Take a base backup, keep the newest ones, and remove the log that is older than all of them.
#   docker compose exec --user postgres postgres sh /crm/backup.sh
set -eu
archive=${ARCHIVE:-/archive}
keep=${KEEP_BACKUPS:-2}
name=$(date -u +%Y-%m-%dT%H%M%S.%3NZ)

mkdir -p "$archive/base" "$archive/wal"
rm -rf "$archive"/base/*.new
pg_basebackup --username="${POSTGRES_USER:-postgres}" --pgdata="$archive/base/$name.new" \
    --format=plain --checkpoint=fast --wal-method=stream --no-password
mv "$archive/base/$name.new" "$archive/base/$name"

# Names sort by time.
ls "$archive/base" | sort -r | tail -n "+$((keep + 1))" | while read -r old; do
    rm -rf "${archive:?}/base/$old"
done
oldest=$(ls "$archive/base" | sort | head -n 1)
# "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)"
needed=$(sed -n 's/^START WAL LOCATION: .*(file \([0-9A-F]*\))$/\1/p' "$archive/base/$oldest/backup_label")
test -n "$needed"
pg_archivecleanup --clean-backup-history "$archive/wal" "$needed"
echo "backup $name; the oldest is $oldest; log before $needed is removed"
