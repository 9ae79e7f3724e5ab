#!/bin/sh
# Restores an index from a snapshot of scripts/backup.sh, under its own name or another, and puts what is missing of this
# release's templates and pipelines.
#
#   scripts/restore.sh [--as NEW] [--global-state] [--timeout SECONDS] NAME REPOSITORY SNAPSHOT [URL]
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
top="$(cd "$(dirname "$0")/.." && pwd)"
# shellcheck source-path=SCRIPTDIR source=lib/cluster.sh
. "$top/scripts/lib/cluster.sh"

new='' global=false seconds=3600
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help) print_help && exit 0 ;;
        --global-state) global=true ;;
        --as | --timeout)
            [ $# -gt 1 ] || wrong_usage "$1 needs a value"
            if [ "$1" = --as ]; then new="$2"; else seconds="$2"; fi
            shift
            ;;
        -*) wrong_usage "no option $1" ;;
        *) break ;;
    esac
    shift
done
{ [ $# -ge 3 ] && [ $# -le 4 ]; } || wrong_usage "NAME REPOSITORY SNAPSHOT [URL] expected, got $# arguments"
check_name index "$1"
check_name repository "$2"
check_name snapshot "$3"
name="$1" repository="$2" snapshot="$3"
new="${new:-$name}"
check_name index "$new"
check_seconds "$seconds"
shift 3
use_cluster "$@"

request GET "/$new?filter_path=none" || die 'no answer from the cluster'
[ "$status" -eq 404 ] || die "an index or alias $new is there already; delete it, or restore with --as"

must GET "/_snapshot/$repository/$snapshot?filter_path=snapshots.indices,snapshots.state"
# In a pattern, a dot stands for any character.
pattern="$(printf '%s' "$name" | sed 's/\./[.]/g')"
indices="$(printf '%s' "$answer" | tr '"' '\n' | grep -x "deepterms-[a-z]*-v[0-9]*-$pattern-[0-9]*" || :)"
[ -n "$indices" ] || die "the snapshot $repository/$snapshot holds no index $name: $answer"

restored_name() { say "$1" | sed "s/-$pattern-\([0-9]*\)\$/-$new-\1/"; }
commas() { printf '%s\n' "$1" | tr '\n' ',' | sed 's/,$//'; }
field() { printf '%s' "$answer" | sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p"; }

# put_pipeline INDEX – the index's own, which ingest_pipelines/README.md describes, from the encoder in its mapping. A
# snapshot holds pipelines, but gives them back only all together.
put_pipeline() {
    must GET "/$1/_mapping?filter_path=*.mappings._meta.deepterms.layout,*.mappings._meta.deepterms.version,\
*.mappings._meta.deepterms.vectors"
    encode="deepterms-encode-$(field layout)-v$(field version)"
    case "$(field vectors)" in '' | null) vectors=false ;; *) vectors=true ;; esac
    must GET "/$1/_mapping?filter_path=*.mappings._meta.deepterms.encoder"
    binary="$(field binary)"
    must PUT "/_ingest/pipeline/$1" "{\"description\":\"$encode for the documents of one index.\",\"processors\":[\
{\"set\":{\"tag\":\"set-encoder\",\"field\":\"encoder\",\"value\":{\"dimensions\":$(field dimensions),\
\"top_k\":$(field top_k),\"crelu\":$(field crelu),\"binary\":${binary:-false},\"vectors\":$vectors}}},\
{\"pipeline\":{\"tag\":\"encode\",\"name\":\"$encode\"}}]}"
}

# Before the index: whatever is written to it goes through the pipelines.
if ! $global; then
    DEEPTERMS_URL="$cluster" "$top/scripts/deploy.sh" >/dev/null
fi
# The alias comes last, so that nobody finds an index that is not ready. Nor does any other alias of it come back.
must POST "/_snapshot/$repository/$snapshot/_restore" "{\"indices\":\"$(commas "$indices")\",\
\"include_global_state\":$global,\"include_aliases\":false,\
\"rename_pattern\":\"-$pattern-([0-9]+)\$\",\"rename_replacement\":\"-$new-\$1\"}"

restored=''
for index in $indices; do restored="$restored$newline$(restored_name "$index")"; done
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
        must PUT "/$target/_settings" "{\"index.default_pipeline\":\"$target\"}"
    fi
    actions="$actions,{\"add\":{\"index\":\"$target\",\"alias\":\"$new\"}}"
done
must POST /_aliases "{\"actions\":[${actions#,}]}"
must GET "/$new/_count?filter_path=count"
say "$new holds $(field count) documents in $(commas "$restored")"
