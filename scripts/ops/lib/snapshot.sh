# shellcheck shell=sh
# To be sourced by backup.sh and restore.sh after they set `top`: parses the arguments that both have in common.

# shellcheck source-path=SCRIPTDIR source=lib/cluster.sh
. "$top/scripts/ops/lib/cluster.sh"

# read_arguments OPTION FLAG [ARGUMENT…] – sets `name`, `repository`, `snapshot`, `seconds` and the cluster, and `value`
# (default: empty) and `flag` (default: false) from the script's own OPTION and FLAG, which may be empty.
# shellcheck disable=SC2034 # read by the scripts
read_arguments() {
    own_option="$1" own_flag="$2" value='' flag=false seconds=3600
    shift 2
    while [ $# -gt 0 ]; do
        case "$1" in
            '') break ;;
            -h | --help) print_help && exit 0 ;;
            "$own_flag") flag=true ;;
            "$own_option" | --timeout)
                [ $# -gt 1 ] || wrong_usage "$1 needs a value"
                if [ "$1" = --timeout ]; then seconds="$2"; else value="$2"; fi
                shift
                ;;
            -*) wrong_usage "unknown option $1" ;;
            *) break ;;
        esac
        shift
    done
    { [ $# -ge 3 ] && [ $# -le 4 ]; } || wrong_usage "expected NAME REPOSITORY SNAPSHOT [URL], got $# arguments"
    check_name index "$1"
    check_name repository "$2"
    check_name snapshot "$3"
    check_seconds "$seconds"
    name="$1" repository="$2" snapshot="$3"
    shift 3
    use_cluster "$@"
}
