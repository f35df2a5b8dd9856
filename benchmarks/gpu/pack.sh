#!/usr/bin/env bash
# Put into .gpu/ what a GPU machine without a network needs beside the tree. Run before each call:
#   benchmarks/gpu/pack.sh 1   wheels, CIFAR-10 batches 1, 2 and test   (about 55 MiB with the tree)
#   benchmarks/gpu/pack.sh 2   wheels, CIFAR-10 batches 3, 4, 5         (about 55 MiB)
# The packed images are looked for in $CNNGRID_PACKED, by default ../shared/data.
set -euo pipefail
cd "$(dirname "$0")/../.."
data=${CNNGRID_PACKED:-../shared/data}
python=${PYTHON:-.venv/bin/python}
call=${1:-1}
mkdir -p .gpu/wheels .gpu/data/cifar-10
tags=()
for n in 2_28 2_27 2_17 2014 1; do tags+=(--platform "manylinux${n/#2_/_2_}_x86_64"); done
if [ -z "$(ls .gpu/wheels)" ]; then # 3.4 MB; captum is imported, though `explain` alone uses it
    "$python" -m pip download -q --no-deps --only-binary=:all: --dest .gpu/wheels \
        --python-version 3.12 --implementation cp "${tags[@]}" \
        pydantic==2.14.4 pydantic-core==2.50.5 annotated-types typing-inspection typing-extensions \
        ruamel.yaml captum
fi
rm -f .gpu/data/cifar-10/*.tar
cp "$data/expand" "$data/manifest.json" .gpu/data/
cp "$data/cifar-10/skeleton.tar.xz" .gpu/data/cifar-10/
case $call in
1) batches=(data_batch_1 data_batch_2 test_batch) ;;
*) batches=(data_batch_3 data_batch_4 data_batch_5) ;;
esac
for name in "${batches[@]}"; do cp "$data/cifar-10/$name.tar" .gpu/data/cifar-10/; done
chmod -R u+w .gpu
echo "with the tree:"
{ git ls-files -coz --exclude-standard; find .gpu -type f -print0; } |
    { du -ch --apparent-size --files0-from=- 2>/dev/null || true; } | tail -1
