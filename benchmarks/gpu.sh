#!/usr/bin/env bash
# On one CUDA machine without a network, in under 9 minutes: is it right, how fast is it, does it learn?
#
#     benchmarks/gpu.sh --prepare         # where there is a network: fills .carry/, which travels with the tree
#     benchmarks/gpu.sh                   # on the GPU: all parts, in order of value
#     benchmarks/gpu.sh right measure     # some of them: right, measure, learn
#     CPC_REHEARSE=cpu benchmarks/gpu.sh  # tiny sizes on a CPU, and four times the time: to see that it runs
#
# OUT=FOLDER takes gpu.md (the report), gpu.log (all that was printed) and gpu.tgz (tables as JSON, metrics of epochs),
# written after each part, so that a cut leaves what was done. SECONDS_IN_ALL=540 bounds all parts together; `learn`
# trains for what is left when it begins, or until its EPOCHS=12 are over. CPC_CUT=N bounds each part.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
carry=.carry
failed=0

prepare() {
  local data=${CPC_DATA:-/usr/share/datasets/fashion-mnist}
  rm -rf $carry && mkdir -p $carry/wheels $carry/fashion || exit
  # What such a machine may lack beside torch, torchvision, pytorch-lightning, scikit-learn and pytest, all of it pure
  # Python; and what the package is built with. Not wandb, which only `logger=wandb` imports; nor pandas, which only the
  # page needs; nor matplotlib, which only draws.
  "$python" -m pip wheel -q --no-cache-dir --no-deps -w $carry/wheels "hydra-core==1.3.*" "omegaconf==2.3.*" \
    antlr4-python3-runtime==4.9.3 "rich>=14" markdown-it-py mdurl "setuptools>=77" || exit
  cp "$data"/{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz $carry/fashion || exit
  du -ah --apparent-size $carry
  git ls-files -z | du -ch --apparent-size --files0-from=- | tail -n 1 | sed 's/total/tracked files beside it/'
}

if [ "${1:-}" = --prepare ]; then
  prepare
  exit
fi
[ $# -gt 0 ] && asked=("$@") || asked=(right measure learn)
for name in "${asked[@]}"; do
  case $name in
    right | measure | learn) ;;
    *)
      echo "benchmarks/gpu.sh: there is no part $name; there are right, measure, learn" >&2
      exit 2
      ;;
  esac
done
rehearse=${CPC_REHEARSE:-}
if [ -z "$rehearse" ] && ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
  echo "benchmarks/gpu.sh: torch finds no CUDA device here, so there is nothing to measure" >&2
  exit 3
fi

out=${OUT:-benchmarks/results}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out" "$work/results"
report=$out/gpu.md log=$out/gpu.log
: >"$log"
[ -n "$rehearse" ] && patience=4 || patience=1
in_all=${SECONDS_IN_ALL:-$((540 * patience))}
export PYTHONUNBUFFERED=1 CPC_BENCHMARK_RESULTS=$work/results  # the tables in benchmarks/results are a CPU's

if [ -d $carry ]; then
  export CPC_DATA=${CPC_DATA:-$PWD/$carry/fashion}
  # The package is built from this tree, with the setuptools that was carried, and installed beside what is there.
  "$python" -m pip install -q --no-index --find-links $carry/wheels --no-deps --no-compile --no-cache-dir \
    --target "$work/site" hydra-core omegaconf antlr4-python3-runtime rich markdown-it-py mdurl . >>"$log" 2>&1
  export PYTHONPATH=$work/site
fi
# What is missing is said at once, not after minutes.
"$python" - >"$report" <<'CODE' || {
import platform, torch
import cpc_lightning.app.run
from cpc_lightning.datasets.fashion_mnist import fashion_mnist

fashion_mnist()
device = torch.cuda.get_device_name() if torch.cuda.is_available() else "a CPU: a rehearsal, whose times mean nothing"
print(f"Measured on {device}; Python {platform.python_version()}, torch {torch.__version__}")
CODE
  tail -n 5 "$log"
  echo "benchmarks/gpu.sh: run it with --prepare first; or install the package, and Fashion-MNIST (CPC_DATA=FOLDER)" >&2
  exit 2
}

left() { echo $((in_all - SECONDS)); }

part() { # TITLE SECONDS RESULT COMMAND...: runs it within so many seconds, and shows its result, and how it failed
  local title=$1 limit=$(($2 * patience)) result=$3 start=$SECONDS code=0 before
  shift 3
  [ "$limit" -le "${CPC_CUT:-$limit}" ] || limit=$CPC_CUT
  [ "$limit" -le "$(left)" ] || limit=$(left)
  echo "# $title" >>"$log"
  before=$(wc -c <"$log")
  if [ "$limit" -lt 1 ]; then
    code=none
  else
    timeout -k 10 "$limit" "$@" >>"$log" 2>&1 || code=$?  # no pipe: a child that is left over would hold it open
  fi
  [ "$code" = 0 ] || failed=1
  {
    printf '\n# %s\n\n`%s`: exit code %s, %s s of %s\n\n' "$title" "$*" "$code" $((SECONDS - start)) "$limit"
    [ ! -f "$work/$result" ] || cat "$work/$result"
    if [ "$code" != 0 ] || [ ! -f "$work/$result" ]; then
      [ "$code" != none ] || echo "no time was left" >>"$log"
      echo '```' && tail -c "+$((before + 1))" "$log" | tail -n 20 && echo '```'
    fi
  } >>"$report"
  tar -czf "$out/gpu.tgz" -C "$work" results
  echo "$title: exit code $code, $((SECONDS - start)) s"
}

of_tests=(-m pytest -v --tb=short -o addopts= -p no:cacheprovider)  # without pytest-xdist, in one process
if [ -n "$rehearse" ]; then
  workload=small steps=1 rounds=1 size=512 batch=(--batch-size 2 --precisions 32-true) samples=(--samples 1024)
  images=40 workers=(0 1) tiny=--tiny
else
  workload=preact steps=10 rounds=2 size=8192 batch=() samples=()
  images=2000 workers=(8 16) tiny=
fi

right() {
  local files
  mapfile -t files < <(grep -rl 'mark\.gpu' tests --include='test_*.py')
  part "Tests that need a GPU" 150 none "$python" "${of_tests[@]}" -m "gpu and not slow" "${files[@]}"
  part "Compiled networks train the same" 90 none "$python" "${of_tests[@]}" -m gpu -k compile tests/test_speed.py
}

measure() {
  part "Step and epoch" 120 results/epoch.md "$python" benchmarks/epoch.py --workloads $workload --steps $steps \
    --rounds $rounds --sides "this library"
  part "FLOPs utilisation and memory" 90 results/utilisation.md "$python" benchmarks/utilisation.py \
    --workloads $workload resnet50 --steps $steps --size $size "${batch[@]}" --rounds $rounds
  part "Where the time goes" 60 results/where.md "$python" benchmarks/where.py --workloads $workload --steps $steps \
    "${samples[@]}"
  part "Input of JPEG files" 60 results/input.md "$python" benchmarks/input.py --images $images --rounds 1 \
    --workers "${workers[@]}"
  part "Compiled step" 90 results/compiled.md "$python" benchmarks/epoch.py --workloads $workload --steps $steps \
    --rounds 1 --sides "this library" compiled --name compiled
}

learn() {
  local seconds=$(($(left) - 25))
  part "Fashion-MNIST" $(($(left) / patience)) results/fashion.md "$python" benchmarks/fashion.py $tiny \
    --seconds $((seconds > 0 ? seconds : 0)) --epochs "${EPOCHS:-12}"
}

for name in "${asked[@]}"; do
  $name
done
printf '\nAll in %s s.\n' "$SECONDS" >>"$report"
echo "wrote $report in $SECONDS s"
exit "$failed"
