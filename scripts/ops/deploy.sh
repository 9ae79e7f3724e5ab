#!/bin/sh
# Writes the ingest pipelines, then the index templates, to a cluster. Needs only curl.
#
#   scripts/ops/deploy.sh [--replace] [--allow-downgrade] [URL]
#
#   --replace           overwrite resources that exist; by default they are kept
#   --allow-downgrade   with --replace: also overwrite resources of a later release
#
# Deploys the layouts that the engine supports in its version. Rerun to resume after an interruption. `deepterms deploy`
# does the same, and also compares the contents of resources that exist.
#
#   DEEPTERMS_URL                            address of the cluster, if not given as an argument
#   DEEPTERMS_USER and DEEPTERMS_PASSWORD    basic authentication
#   DEEPTERMS_API_KEY                        Elasticsearch API key, instead of a user and a password
#   DEEPTERMS_CA_CERTS                       CA that signed the cluster's certificate, which is always verified
set -eu
top="$(cd "$(dirname "$0")/../.." && pwd)"
# shellcheck source-path=SCRIPTDIR source=lib/cluster.sh
. "$top/scripts/ops/lib/cluster.sh"

replace=false allow_downgrade=false
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help) print_help && exit 0 ;;
        --replace) replace=true ;;
        --allow-downgrade) allow_downgrade=true ;;
        -*) wrong_usage "unknown option $1" ;;
        *) break ;;
    esac
    shift
done
[ $# -le 1 ] || wrong_usage "expected one URL, got $#"
use_cluster "$@"
find_resources

# Find conflicts before anything is written.
plan=''
for resource in $resources; do
    compare_versions "$resource"
    if [ "$held" = missing ]; then
        action=created
    elif ! $replace; then
        action=exists
    elif [ "${held:-0}" -gt "$expected" ] && ! $allow_downgrade; then
        die "$resource.json in the cluster is version $held, of a later release than this one ($expected);" \
            "nothing was changed. Upgrade, or deploy with --replace --allow-downgrade"
    else
        action=replaced
    fi
    plan="$plan$action $resource$newline"
done

printf '%s' "$plan" | while read -r action resource; do
    if [ "$action" != exists ]; then must PUT "$(endpoint "$resource")" "@$top/$resource.json"; fi
    printf '%-9s %s.json\n' "$action" "$resource"
done
