#!/bin/sh
# One partition for Spark's pipe: rows in, records out. Answers stay in $FOLDER/answers, in
# a file named by what the partition holds, where a later attempt finds them.
set -eu
: "${TOLLGATE_SHARED_LIMIT:?}"
answers=$FOLDER/answers
mkdir -p "$answers"
part=$(mktemp "$answers/new.XXXXXX")
LC_ALL=C sort > "$part"
name=$answers/$(sha256sum "$part" | cut -c 1-16)

exec 9> "$name.lock"
flock 9 # an earlier attempt may still be running
mv "$part" "$name.jsonl"
code=0
tollgate run "$name.jsonl" --id id --prompt 'Is this review good or bad? {{ text }}' \
    --model gpt-4o-mini --max-tokens 5 --api-key-file "$FOLDER/key" \
    --rps 200 --progress never >&2 || code=$?
[ $code -le 1 ] || exit $code # 1: some rows have failed, and their records say why

cat "$name.results.jsonl"
[ ! -e "$name.errors.jsonl" ] || cat "$name.errors.jsonl"
