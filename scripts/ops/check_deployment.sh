#!/bin/sh
# Checks that a cluster holds this release's ingest pipelines and index templates, in the expected versions.
# Exits with status 1 if one is missing or has another version.
#
#   scripts/ops/check_deployment.sh [URL]
#
# `deepterms check` also compares their contents.
#
#   DEEPTERMS_URL                            address of the cluster, if not given as an argument
#   DEEPTERMS_USER and DEEPTERMS_PASSWORD    basic authentication
#   DEEPTERMS_API_KEY                        Elasticsearch API key, instead of a user and a password
#   DEEPTERMS_CA_CERTS                       CA that signed the cluster's certificate, which is always verified
set -eu
top="$(cd "$(dirname "$0")/../.." && pwd)"
# shellcheck source-path=SCRIPTDIR source=lib/cluster.sh
. "$top/scripts/ops/lib/cluster.sh"

case "${1:-}" in
    -h | --help) print_help && exit 0 ;;
    -*) wrong_usage "unknown option $1" ;;
esac
[ $# -le 1 ] || wrong_usage "expected one URL, got $#"
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
    say "$wrong missing or in another version; scripts/ops/deploy.sh writes missing ones, and others with --replace" >&2
    exit 1
fi
