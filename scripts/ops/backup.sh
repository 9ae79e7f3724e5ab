#!/bin/sh
# Takes a snapshot of an index, with the pivots that its encoder needs and the cluster's templates and pipelines, in a
# snapshot repository.
#
#   scripts/ops/backup.sh [--register FOLDER] [--timeout SECONDS] NAME REPOSITORY SNAPSHOT [URL]
#
#   NAME                the index as deepterms knows it: an alias
#   REPOSITORY          the snapshot repository. With --register FOLDER it is created first, in a folder that every node
#                       can access and lists in its setting path.repo
#   SNAPSHOT            a name that is not yet used in the repository
#   --timeout SECONDS   how long to wait for the snapshot, which continues after a timeout. Default: 3600
#
# The snapshot contains templates, pipelines and cluster settings as its global state, which scripts/ops/restore.sh
# restores only with --global-state.
#
#   DEEPTERMS_URL                            address of the cluster, if not given as an argument
#   DEEPTERMS_USER and DEEPTERMS_PASSWORD    basic authentication
#   DEEPTERMS_API_KEY                        Elasticsearch API key, instead of a user and a password
#   DEEPTERMS_CA_CERTS                       CA that signed the cluster's certificate, which is always verified
set -eu
top="$(cd "$(dirname "$0")/../.." && pwd)"
# shellcheck source-path=SCRIPTDIR source=lib/snapshot.sh
. "$top/scripts/ops/lib/snapshot.sh"

read_arguments --register '' "$@"
folder="$value"
detect_engine

must GET "/_cat/aliases/$name?h=index"
concretes="$(printf '%s\n' "$answer" | tr -d ' ')"
[ -n "$concretes" ] || die "there is no alias $name in the cluster"
indices=''
for concrete in $concretes; do
    indices="$indices$concrete,"
    # The index of its pivots, which scripts/ops/restore.sh restores as well; described in index_templates/README.md.
    own="${concrete#deepterms-}"
    must GET "/_cat/indices/deepterms-pivots-v*-$own?h=index"
    companions="$(printf '%s\n' "$answer" | tr -d ' ' | grep "^deepterms-pivots-v[0-9]*-[0-9a-f]\{8\}-$own\$" || :)"
    for companion in $companions; do indices="$indices$companion,"; done
    must GET "/$concrete/_mapping?filter_path=*.mappings._meta.deepterms.encoder.pivots.checksum"
    case "$companions$answer" in
        deepterms-*) ;;
        *checksum*) say "${0##*/}: the pivots of $concrete are neither in the cluster nor in this snapshot" >&2 ;;
    esac
done

if [ -n "$folder" ]; then
    must PUT "/_snapshot/$repository" "{\"type\":\"fs\",\"settings\":{\"location\":\"$(escape_quotes "$folder")\"}}"
fi
# By default, Elasticsearch adds its system indices (users, API keys) to the global state.
case "$engine" in
    Elasticsearch) features=',"feature_states":["none"]' ;;
    *) features='' ;;
esac
must PUT "/_snapshot/$repository/$snapshot" \
    "{\"indices\":\"${indices%,}\",\"include_global_state\":true$features}"

# Poll instead of one long request, which a proxy could cut off.
deadline=$(($(date +%s) + seconds))
while :; do
    must GET "/_snapshot/$repository/$snapshot?filter_path=snapshots.state,snapshots.shards,snapshots.failures"
    case "$answer" in
        *'"state":"SUCCESS"'*) break ;;
        *'"state":"IN_PROGRESS"'*) ;;
        *) die "the snapshot $repository/$snapshot is incomplete: $answer" ;;
    esac
    [ "$(date +%s)" -lt "$deadline" ] || die "$repository/$snapshot is not complete after $seconds s; the snapshot continues"
    sleep 1
done
say "$repository/$snapshot holds ${indices%,}"
