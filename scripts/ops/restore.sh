#!/bin/sh
# Restores an index and its pivots from a snapshot taken by scripts/ops/backup.sh, under its own or another name. Writes
# those of this release's templates and pipelines that are missing.
#
#   scripts/ops/restore.sh [--as NEW] [--global-state] [--timeout SECONDS] NAME REPOSITORY SNAPSHOT [URL]
#
#   NAME                name of the index in the snapshot
#   --as NEW            restore it as NEW, for instance next to the original
#   --global-state      also restore templates, pipelines and cluster settings. This replaces ALL that the cluster has,
#                       including those of other products, so use it on an empty cluster
#   --timeout SECONDS   how long to wait for the restore, which continues after a timeout. Default: 3600
#
#   DEEPTERMS_URL                            address of the cluster, if not given as an argument
#   DEEPTERMS_USER and DEEPTERMS_PASSWORD    basic authentication
#   DEEPTERMS_API_KEY                        Elasticsearch API key, instead of a user and a password
#   DEEPTERMS_CA_CERTS                       CA that signed the cluster's certificate, which is always verified
set -eu
top="$(cd "$(dirname "$0")/../.." && pwd)"
# shellcheck source-path=SCRIPTDIR source=lib/snapshot.sh
. "$top/scripts/ops/lib/snapshot.sh"

read_arguments --as --global-state "$@"
new="${value:-$name}" global="$flag"
check_name index "$new"

request GET "/$new?filter_path=none" || die 'no response from the cluster'
[ "$status" -eq 404 ] || die "an index or alias $new exists already; delete it, or choose another name with --as"

must GET "/_snapshot/$repository/$snapshot?filter_path=snapshots.indices,snapshots.state"
# In a pattern, a dot matches any character.
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

# put_pipeline INDEX – writes the index's own pipeline, described in ingest_pipelines/README.md. It is built from the
# encoder in the mapping, because a snapshot restores pipelines only all together, and so lacks what a migration that was
# running during the backup had added. Sets `pipeline` to the index's own, or to the layout's if the index had its own only
# because of a migration in progress.
put_pipeline() {
    must GET "/$1/_mapping?filter_path=*.mappings._meta.deepterms.layout,*.mappings._meta.deepterms.version,\
*.mappings._meta.deepterms.vectors,*.mappings._meta.deepterms.compare,*.mappings._meta.deepterms.sketch,\
*.mappings._meta.deepterms.fingerprint"
    layout="$(field layout)-v$(field version)" vectors="$(field vectors)" compare="$(field compare)"
    sketch="$(field sketch)" fingerprint="$(field fingerprint)"
    must GET "/$1/_mapping?filter_path=*.mappings._meta.deepterms.encoder"
    pipeline="$1" guard='' first='' last=''
    case "$fingerprint" in '' | null) ;; *)
        guard="$(processor check-fingerprint-v1 "\"fingerprint\":\"$fingerprint\""),"
        ;;
    esac
    case "$compare" in native)
        last=",$(processor keep-native-vector-v1 "\"bytes\":$(field dimensions)")"
        vectors=native
        ;;
    esac
    case "$sketch" in true)
        last="$last,$(processor sketch-vector-v1 "$(sketch_parameters "$vectors" "$(field dimensions)")")"
        ;;
    esac
    case "$vectors:$(field type)" in
        native:*)
            calls="deepterms-$layout"
            first="$(processor check-native-vector-v1 "\"dimensions\":$(field dimensions)"),"
            then=check-and-render
            ;;
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

# processor NAME PARAMETERS – prints a processor of ingest_pipelines/processors with parameters, as JSON on one line.
processor() {
    file="$top/ingest_pipelines/processors/$1.json"
    grep -q '^    "params": {},$' "$file" || die "$file is missing or damaged; run this script from a complete checkout"
    sed "s/^    \"params\": {},\$/\"params\": {$2},/" "$file" | tr -d '\n'
}

# int8_bytes DIMENSIONS – prints the length of a stored vector.
int8_bytes() { echo $((4 + ($1 + 3) / 4 * 4)); }

# sketch_parameters TYPE DIMENSIONS – prints the parameters of the script that computes sketches, the sign bits of vectors.
sketch_parameters() {
    case "$1" in
        int8) printf '"dimensions":%s,"bytes":%s,"first":4,"step":1' "$2" "$(int8_bytes "$2")" ;;
        *) printf '"dimensions":%s,"bytes":%s,"first":3,"step":4' "$2" $((4 * $2)) ;;
    esac
}

# int8_parameters DIMENSIONS – prints the parameters of the script that rejects vectors of another length.
int8_parameters() {
    bytes="$(int8_bytes "$1")"
    printf '"characters":%s,"bytes":%s,"dimensions":%s' $(((4 * bytes + 2) / 3)) "$bytes" "$1"
}

# Before the index, because everything written to it goes through the pipelines.
if ! $global; then
    DEEPTERMS_URL="$cluster" "$top/scripts/ops/deploy.sh" >/dev/null
fi
# The alias is added last, so that no search sees an incomplete index. Its other aliases are not restored.
must POST "/_snapshot/$repository/$snapshot/_restore" "{\"indices\":\"$(commas "$all")\",\
\"include_global_state\":$global,\"include_aliases\":false,\
\"rename_pattern\":\"-$pattern-([0-9]+)\$\",\"rename_replacement\":\"-$new-\$1\"}"

restored=''
for index in $all; do restored="$restored$newline$(restored_name "$index")"; done
restored="${restored#"$newline"}"

# Poll instead of one long request, which a proxy could cut off. The health does not help: it is yellow as soon as the
# restore has begun.
deadline=$(($(date +%s) + seconds))
while :; do
    must GET "/_cat/shards/$(commas "$restored")?h=prirep,state"
    case "$(printf '%s\n' "$answer" | sed -n 's/^p *//p' | sort -u | tr -d ' \n')" in STARTED) break ;; esac
    [ "$(date +%s)" -lt "$deadline" ] || die "not all shards are restored after $seconds s: $answer; the restore continues"
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
        true) say "$target rejects writes, as it did at the backup; set index.blocks.write to null to allow them" >&2 ;;
    esac
    actions="$actions,{\"add\":{\"index\":\"$target\",\"alias\":\"$new\"}}"
done
must POST /_aliases "{\"actions\":[${actions#,}]}"
must GET "/$new/_count?filter_path=count"
say "$new holds $(field count) documents in $(commas "$restored")"
