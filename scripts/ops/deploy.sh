#!/bin/sh
# Puts the ingest pipelines, then the index templates, into a cluster with curl alone.
#
#   scripts/ops/deploy.sh [--replace] [--allow-downgrade] [URL]
#
#   --replace           overwrite what is there already; without, it is left as it is
#   --allow-downgrade   with --replace: overwrite resources of a later release too
#
# Those layouts are deployed that the engine and its version have. A deployment that was cut is repeated, and goes on
# where it was. `deepterms deploy` does the same and also compares what is there already.
#
#   DEEPTERMS_URL                            the cluster, where no argument names it
#   DEEPTERMS_USER and DEEPTERMS_PASSWORD    basic authentication
#   DEEPTERMS_API_KEY                        instead: an Elasticsearch API key
#   DEEPTERMS_CA_CERTS                       the authority that signed the cluster's certificate; always verified
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
        -*) wrong_usage "no option $1" ;;
        *) break ;;
    esac
    shift
done
[ $# -le 1 ] || wrong_usage "one URL expected, got $#"
use_cluster "$@"
find_resources

# What is refused is found before anything is written.
plan=''
for resource in $resources; do
    compare_versions "$resource"
    if [ "$held" = missing ]; then
        action=created
    elif ! $replace; then
        action=there
    elif [ "${held:-0}" -gt "$expected" ] && ! $allow_downgrade; then
        die "$resource.json in the cluster is version $held, of a later release than this one ($expected);" \
            "nothing was changed. Upgrade, or deploy with --replace --allow-downgrade"
    else
        action=replaced
    fi
    plan="$plan$action $resource$newline"
done

printf '%s' "$plan" | while read -r action resource; do
    if [ "$action" != there ]; then must PUT "$(endpoint "$resource")" "@$top/$resource.json"; fi
    printf '%-9s %s.json\n' "$action" "$resource"
done
