#!/bin/sh
# Waits until a cluster answers and is at least yellow: every index can be searched and written. Exit status 1 if it
# does not in time.
#
#   scripts/ops/wait_for_cluster.sh [--status yellow|green] [--timeout SECONDS] [URL]
#
#   --status    green waits for the copies of each shard too; default: yellow
#   --timeout   default: 120
#
#   DEEPTERMS_URL                            the cluster, where no argument names it
#   DEEPTERMS_USER and DEEPTERMS_PASSWORD    basic authentication
#   DEEPTERMS_API_KEY                        instead: an Elasticsearch API key
#   DEEPTERMS_CA_CERTS                       the authority that signed the cluster's certificate; always verified
set -eu
top="$(cd "$(dirname "$0")/../.." && pwd)"
# shellcheck source-path=SCRIPTDIR source=lib/cluster.sh
. "$top/scripts/ops/lib/cluster.sh"

wanted=yellow seconds=120
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help) print_help && exit 0 ;;
        --status | --timeout)
            [ $# -gt 1 ] || wrong_usage "$1 needs a value"
            if [ "$1" = --status ]; then wanted="$2"; else seconds="$2"; fi
            shift
            ;;
        -*) wrong_usage "no option $1" ;;
        *) break ;;
    esac
    shift
done
[ $# -le 1 ] || wrong_usage "one URL expected, got $#"
case "$wanted" in
    yellow | green) ;;
    *) wrong_usage "'$wanted' is not a status to wait for; expected yellow or green" ;;
esac
check_seconds "$seconds"
use_cluster "$@"

request_seconds=10
deadline=$(($(date +%s) + seconds))
while :; do
    if seen="$(request GET "/_cluster/health?wait_for_status=$wanted&timeout=2s" 2>&1 && say "$status $answer")"; then
        case "$seen" in
            200*) break ;;
            401* | 403*) die "the cluster refuses: HTTP $seen" ;; # waiting would not help
        esac
    fi
    [ "$(date +%s)" -lt "$deadline" ] || die "not $wanted within $seconds s: $seen"
    sleep 1
done
say "$wanted, or better"
