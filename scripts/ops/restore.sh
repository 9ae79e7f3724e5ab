#!/bin/sh
# Restores an index from a snapshot of scripts/ops/backup.sh, with its pivots, under its own name or another, and puts what is
# missing of this release's templates and pipelines.
#
#   scripts/ops/restore.sh [--as NEW] [--global-state] [--timeout SECONDS] NAME REPOSITORY SNAPSHOT [URL]
#
#   NAME                the index as it was called
#   --as NEW            call it NEW, beside the one that may still be there
#   --global-state      also restore templates, pipelines and cluster settings as they were. They take the place of ALL
#                       that the cluster has, other products' too: for an empty cluster
#   --timeout SECONDS   how long to wait; the restoring goes on by itself after that. Default: 3600
#
#   DEEPTERMS_URL                            the cluster, where no argument names it
#   DEEPTERMS_USER and DEEPTERMS_PASSWORD    basic authentication
#   DEEPTERMS_API_KEY                        instead: an Elasticsearch API key
#   DEEPTERMS_CA_CERTS                       the authority that signed the cluster's certificate; always verified
set -eu
top="$(cd "$(dirname "$0")/../.." && pwd)"
# shellcheck source-path=SCRIPTDIR source=lib/snapshot.sh
. "$top/scripts/ops/lib/snapshot.sh"

read_arguments --as --global-state "$@"
new="${value:-$name}" global="$flag"
check_name index "$new"

request GET "/$new?filter_path=none" || die 'no answer from the cluster'
[ "$status" -eq 404 ] || die "an index or alias $new is there already; delete it, or restore with --as"

must GET "/_snapshot/$repository/$snapshot?filter_path=snapshots.indices,snapshots.state"
# In a pattern, a dot stands for any character.
pattern="$(printf '%s' "$name" | sed 's/\./[.]/g')"
held="$(printf '%s' "$answer" | tr '"' '\n')"
indices="$(printf '%s\n' "$held" | grep -x "deepterms-[a-z_]*-v[0-9]*-$pattern-[0-9]*" | grep -v '^deepterms-pivots-' || :)"
[ -n "$indices" ] || die "the snapshot $repository/$snapshot holds no index $name: $answer"
companions="$(printf '%s\n' "$held" |
    grep -x "deepterms-pivots-v[0-9]*-[0-9a-f]\{8\}-[a-z_]*-v[0-9]*-$pattern-[0-9]*" || :)"
all="$indices${companions:+$newline$companions}"

restored_name() { say "$1" | sed "s/-$pattern-\([0-9]*\)\$/-$new-\1/"; }
commas() { printf '%s\n' "$1" | tr '\n' ',' | sed 's/,$//'; }
field() { printf '%s' "$answer" | sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p"; }

# put_pipeline INDEX – its own, which ingest_pipelines/README.md describes, made from the encoder in its mapping, so
# without what a migration had added that was under way at the backup. A snapshot holds pipelines, but gives them back
# only all together. Sets `pipeline`: the index's own, or the layout's, if the pinning by a migration was all that it had.
put_pipeline() {
    must GET "/$1/_mapping?filter_path=*.mappings._meta.deepterms.layout,*.mappings._meta.deepterms.version,\
*.mappings._meta.deepterms.vectors,*.mappings._meta.deepterms.dense_vector,*.mappings._meta.deepterms.sketch,\
*.mappings._meta.deepterms.fingerprint"
    layout="$(field layout)-v$(field version)" vectors="$(field vectors)" dense="$(field dense_vector)"
    sketch="$(field sketch)" fingerprint="$(field fingerprint)"
    must GET "/$1/_mapping?filter_path=*.mappings._meta.deepterms.encoder"
    pipeline="$1" guard='' first='' last=''
    case "$fingerprint" in '' | null) ;; *)
        guard="$(processor check-fingerprint-v1 "\"fingerprint\":\"$fingerprint\""),"
        ;;
    esac
    case "$dense" in true)
        last=",$(processor decode-vector-v1 "\"dimensions\":$(field dimensions)")"
        ;;
    esac
    case "$sketch" in true)
        last="$last,$(processor sketch-vector-v1 "$(sketch_parameters "$vectors" "$(field dimensions)")")"
        ;;
    esac
    case "$vectors:$(field type)" in
        int8:*)
            calls="deepterms-$layout"
            first="$(processor check-int8-vector-v1 "$(int8_parameters "$(field dimensions)")"),"
            then=check-and-render
            ;;
        *:deep_permutation)
            case "$vectors" in '' | null) vectors=false ;; *) vectors=true ;; esac
            binary="$(field binary)"
            calls="deepterms-encode-$layout"
            first="{\"set\":{\"tag\":\"set-encoder\",\"field\":\"encoder\",\"value\":{\
\"dimensions\":$(field dimensions),\"top_k\":$(field top_k),\"crelu\":$(field crelu),\
\"binary\":${binary:-false},\"vectors\":$vectors}}},"
            then=encode
            ;;
        *)
            calls="deepterms-$layout"
            then=check-and-render
            [ -n "$guard$last" ] || {
                pipeline="$calls"
                return
            }
            ;;
    esac
    must PUT "/_ingest/pipeline/$1" "{\"description\":\"$calls for the documents of one index.\",\"processors\":[\
$guard$first{\"pipeline\":{\"tag\":\"$then\",\"name\":\"$calls\"}}$last]}"
}

# processor NAME PARAMETERS – one of ingest_pipelines/processors, with an index's parameters, as JSON on one line.
processor() {
    file="$top/ingest_pipelines/processors/$1.json"
    grep -q '^    "params": {},$' "$file" || die "$file is missing or damaged; restore with a whole checkout"
    sed "s/^    \"params\": {},\$/\"params\": {$2},/" "$file" | tr -d '\n'
}

# int8_bytes DIMENSIONS – the length of a stored vector.
int8_bytes() { echo $((4 + ($1 + 3) / 4 * 4)); }

# sketch_parameters TYPE DIMENSIONS – of the script that takes the signs of vectors.
sketch_parameters() {
    case "$1" in
        int8) printf '"dimensions":%s,"bytes":%s,"first":4,"step":1' "$2" "$(int8_bytes "$2")" ;;
        *) printf '"dimensions":%s,"bytes":%s,"first":3,"step":4' "$2" $((4 * $2)) ;;
    esac
}

# int8_parameters DIMENSIONS – of the script that refuses vectors of another length.
int8_parameters() {
    bytes="$(int8_bytes "$1")"
    printf '"characters":%s,"bytes":%s,"dimensions":%s' $(((4 * bytes + 2) / 3)) "$bytes" "$1"
}

# Before the index: whatever is written to it goes through the pipelines.
if ! $global; then
    DEEPTERMS_URL="$cluster" "$top/scripts/ops/deploy.sh" >/dev/null
fi
# The alias comes last, so that nobody finds an index that is not ready. Nor does any other alias of it come back.
must POST "/_snapshot/$repository/$snapshot/_restore" "{\"indices\":\"$(commas "$all")\",\
\"include_global_state\":$global,\"include_aliases\":false,\
\"rename_pattern\":\"-$pattern-([0-9]+)\$\",\"rename_replacement\":\"-$new-\$1\"}"

restored=''
for index in $all; do restored="$restored$newline$(restored_name "$index")"; done
restored="${restored#"$newline"}"

# Not one long request: what stands between may cut it. Nor the health: it is yellow as soon as the restoring has begun.
deadline=$(($(date +%s) + seconds))
while :; do
    must GET "/_cat/shards/$(commas "$restored")?h=prirep,state"
    case "$(printf '%s\n' "$answer" | sed -n 's/^p *//p' | sort -u | tr -d ' \n')" in STARTED) break ;; esac
    [ "$(date +%s)" -lt "$deadline" ] || die "not all shards are there after $seconds s: $answer; the restoring goes on"
    sleep 1
done

actions=''
for index in $indices; do
    target="$(restored_name "$index")"
    must GET "/$target/_settings/index.default_pipeline"
    if [ "$(field default_pipeline)" = "$index" ]; then
        put_pipeline "$target"
        must PUT "/$target/_settings" "{\"index.default_pipeline\":\"$pipeline\"}"
    fi
    must GET "/$target/_settings/index.blocks.write"
    case "$(field write)" in
        true) say "$target refuses writes, as at the backup, by its setting index.blocks.write; null takes it away" >&2 ;;
    esac
    actions="$actions,{\"add\":{\"index\":\"$target\",\"alias\":\"$new\"}}"
done
must POST /_aliases "{\"actions\":[${actions#,}]}"
must GET "/$new/_count?filter_path=count"
say "$new holds $(field count) documents in $(commas "$restored")"
