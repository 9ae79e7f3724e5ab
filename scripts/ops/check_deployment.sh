#!/bin/sh
# Says whether a cluster holds this release's ingest pipelines and index templates, with the versions they should have.
# Exit status 1 if one is missing or of another version.
#
#   scripts/ops/check_deployment.sh [URL]
#
# `deepterms check` compares whole bodies, too.
#
#   DEEPTERMS_URL                            the cluster, where no argument names it
#   DEEPTERMS_USER and DEEPTERMS_PASSWORD    basic authentication
#   DEEPTERMS_API_KEY                        instead: an Elasticsearch API key
#   DEEPTERMS_CA_CERTS                       the authority that signed the cluster's certificate; always verified
set -eu
top="$(cd "$(dirname "$0")/../.." && pwd)"
# shellcheck source-path=SCRIPTDIR source=lib/cluster.sh
. "$top/scripts/ops/lib/cluster.sh"

case "${1:-}" in
    -h | --help) print_help && exit 0 ;;
    -*) wrong_usage "no option $1" ;;
esac
[ $# -le 1 ] || wrong_usage "one URL expected, got $#"
use_cluster "$@"
find_resources

wrong=0
for resource in $resources; do
    compare_versions "$resource"
    case "$held" in
        "$expected") state="version $held" ;;
        missing) state=missing ;;
        *) state="version ${held:-none}, expected $expected" ;;
    esac
    [ "$held" = "$expected" ] || wrong=$((wrong + 1))
    printf '%-24s %s.json\n' "$state" "$resource"
done
if [ "$wrong" -gt 0 ]; then
    say "$wrong missing or of another version; scripts/ops/deploy.sh puts what is missing" >&2
    exit 1
fi
