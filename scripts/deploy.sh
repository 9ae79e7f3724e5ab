#!/usr/bin/env bash
# Puts the ingest pipelines, then the index templates, into a cluster with curl alone.
#
#   scripts/deploy.sh [--replace] URL [curl options…]
#
#   scripts/deploy.sh http://localhost:9200
#   scripts/deploy.sh https://search.example.org:9200 --user admin --cacert ca.pem
#
# A resource that is there already is left as it is unless --replace is given; `deepterms deploy` also compares it.
# The layout `frequencies` needs OpenSearch, so it is left out on Elasticsearch.
set -euo pipefail
shopt -s inherit_errexit

usage() { sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2 && exit 2; }

replace=false
if [[ ${1:-} == --replace ]]; then replace=true && shift; fi
[[ ${1:-} == http*://* ]] || usage
url="${1%/}" && shift
top="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

request() { # METHOD PATH [FILE]; prints the body, fails with the engine's answer on any error status
    local method="$1" path="$2" answer status
    shift 2
    answer="$(curl --silent --show-error --request "$method" --write-out '\n%{http_code}' "${options[@]}" \
        --header 'Content-Type: application/json' ${1:+--data-binary "@$1"} "$url$path")" || return 1
    status="${answer##*$'\n'}"
    if ((status >= 400)); then
        echo "$method $path: HTTP $status ${answer%$'\n'*}" >&2
        return 1
    fi
    echo "${answer%$'\n'*}"
}
options=("$@")

engine="$(request GET /)"
if [[ $engine == *opensearch* ]]; then layouts="frequencies words"; else layouts="words"; fi

for kind in ingest_pipelines:_ingest/pipeline index_templates:_index_template; do
    for layout in $layouts; do
        for file in "$top/${kind%%:*}/deepterms-$layout-v"*.json; do
            name="$(basename "$file" .json)"
            path="/${kind#*:}/$name"
            if ! $replace && request GET "$path" >/dev/null 2>&1; then
                echo "there already  ${kind%%:*}/$name.json"
            else
                request PUT "$path" "$file" >/dev/null
                echo "put            ${kind%%:*}/$name.json"
            fi
        done
    done
done
