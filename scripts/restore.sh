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
held="$(printf '%s' "$answer" | tr '"' '\n' | grep -x "deepterms-[a-z]*-v[0-9]*-$pattern-[0-9]*" || :)"
[ -n "$held" ] || die "the snapshot $repository/$snapshot holds no index $name: $answer"
indices="$(printf '%s\n' "$held" | tr '\n' ',')"
restored="$(printf '%s\n' "$held" | sed "s/-$pattern-\([0-9]*\)\$/-$new-\1/" | tr '\n' ',')"

# Before the index, which names its pipeline: whatever is written to it goes through that.
if ! $global; then
    DEEPTERMS_URL="$cluster" "$top/scripts/deploy.sh" >/dev/null
fi
if [ "$new" = "$name" ]; then aliases=true; else aliases=false; fi
must POST "/_snapshot/$repository/$snapshot/_restore" "{\"indices\":\"${indices%,}\",\
\"include_global_state\":$global,\"include_aliases\":$aliases,\
\"rename_pattern\":\"-$pattern-([0-9]+)\$\",\"rename_replacement\":\"-$new-\$1\"}"

# Not one long request: what stands between may cut it.
deadline=$(($(date +%s) + seconds))
while :; do
    request GET "/_cluster/health/${restored%,}?wait_for_status=yellow&timeout=10s" || die 'no answer from the cluster'
    [ "$status" -ne 200 ] || break
    [ "$status" -eq 408 ] || die "GET /_cluster/health: HTTP $status $answer"
    [ "$(date +%s)" -lt "$deadline" ] || die "${restored%,} is not ready after $seconds s; the restoring goes on"
done
if [ "$new" != "$name" ]; then
    must POST /_aliases "{\"actions\":[{\"add\":{\"indices\":[\"$(printf '%s' "${restored%,}" | sed 's/,/","/g')\"],\
\"alias\":\"$new\"}}]}"
fi
must GET "/$new/_count?filter_path=count"
say "$new holds $(printf '%s' "$answer" | tr -dc '0-9') documents in ${restored%,}"
