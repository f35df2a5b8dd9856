# Run a command with the Python of the cluster's Ray, which is often not on the PATH. The raylet is
# an ancestor of this process, and its command line names that Python.
ancestor=$PPID
while [ -z "$python" ] && [ "${ancestor:-1}" -gt 1 ]; do
    python=$(tr '\0' '\n' 2>/dev/null < "/proc/$ancestor/cmdline" |
        sed -n 's/^--python_worker_command=\([^ ]*\).*/\1/p')
    ancestor=$(sed 's/.*) //' "/proc/$ancestor/stat" 2>/dev/null | cut -d ' ' -f 2)
done
exec "${python:-python}" "$@" --address "$RAY_ADDRESS"
