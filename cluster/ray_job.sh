# Runs a command by the Python that the cluster's Ray runs by, which is often not on the path: the
# raylet is among our forebears, and its own command names it.
forebear=$PPID
while [ -z "$python" ] && [ "${forebear:-1}" -gt 1 ]; do
    python=$(tr '\0' '\n' 2>/dev/null < "/proc/$forebear/cmdline" |
        sed -n 's/^--python_worker_command=\([^ ]*\).*/\1/p')
    forebear=$(sed 's/.*) //' "/proc/$forebear/stat" 2>/dev/null | cut -d ' ' -f 2)
done
exec "${python:-python}" "$@" --address "$RAY_ADDRESS"
