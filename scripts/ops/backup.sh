#!/bin/sh
# Takes a snapshot of an index, of the pivots that its encoder needs, and of the templates and pipelines beside it, into
# a snapshot repository.
#
#   scripts/ops/backup.sh [--register FOLDER] [--timeout SECONDS] NAME REPOSITORY SNAPSHOT [URL]
#
#   NAME                an index as deepterms knows it: an alias
#   REPOSITORY          of the cluster; with --register FOLDER it is made first, in a folder that every node sees and
#                       allows (path.repo in its settings)
#   SNAPSHOT            a name that the repository does not have yet
#   --timeout SECONDS   how long to wait for the snapshot; it goes on by itself after that. Default: 3600
#
# Templates, pipelines and cluster settings are in the snapshot as its global state, which scripts/ops/restore.sh leaves
# alone unless told otherwise.
#
#   DEEPTERMS_URL                            the cluster, where no argument names it
#   DEEPTERMS_USER and DEEPTERMS_PASSWORD    basic authentication
#   DEEPTERMS_API_KEY                        instead: an Elasticsearch API key
#   DEEPTERMS_CA_CERTS                       the authority that signed the cluster's certificate; always verified
set -eu
top="$(cd "$(dirname "$0")/../.." && pwd)"
# shellcheck source-path=SCRIPTDIR source=lib/snapshot.sh
. "$top/scripts/ops/lib/snapshot.sh"

read_arguments --register '' "$@"
folder="$value"
detect_engine

must GET "/_cat/aliases/$name?h=index"
concretes="$(printf '%s\n' "$answer" | tr -d ' ')"
[ -n "$concretes" ] || die "no alias $name in the cluster"
indices=''
for concrete in $concretes; do
    indices="$indices$concrete,"
    # Its companion, which scripts/ops/restore.sh brings back with it: index_templates/README.md describes both.
    own="${concrete#deepterms-}"
    must GET "/_cat/indices/deepterms-pivots-v*-$own?h=index"
    companions="$(printf '%s\n' "$answer" | tr -d ' ' | grep "^deepterms-pivots-v[0-9]*-[0-9a-f]\{8\}-$own\$" || :)"
    for companion in $companions; do indices="$indices$companion,"; done
    must GET "/$concrete/_mapping?filter_path=*.mappings._meta.deepterms.encoder.pivots.checksum"
    case "$companions$answer" in
        deepterms-*) ;;
        *checksum*) say "${0##*/}: the pivots of $concrete are not in the cluster, nor in this snapshot" >&2 ;;
    esac
done

if [ -n "$folder" ]; then
    must PUT "/_snapshot/$repository" "{\"type\":\"fs\",\"settings\":{\"location\":\"$(escaped "$folder")\"}}"
fi
# Elasticsearch would add its own system indices (users, API keys) to a global state.
case "$engine" in
    Elasticsearch) features=',"feature_states":["none"]' ;;
    *) features='' ;;
esac
must PUT "/_snapshot/$repository/$snapshot" \
    "{\"indices\":\"${indices%,}\",\"include_global_state\":true$features}"

# Not one long request: what stands between may cut it.
deadline=$(($(date +%s) + seconds))
while :; do
    must GET "/_snapshot/$repository/$snapshot?filter_path=snapshots.state,snapshots.shards,snapshots.failures"
    case "$answer" in
        *'"state":"SUCCESS"'*) break ;;
        *'"state":"IN_PROGRESS"'*) ;;
        *) die "the snapshot $repository/$snapshot is not complete: $answer" ;;
    esac
    [ "$(date +%s)" -lt "$deadline" ] || die "$repository/$snapshot is not ready after $seconds s; it goes on"
    sleep 1
done
say "$repository/$snapshot holds ${indices%,}"
