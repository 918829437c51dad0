#!/usr/bin/env bash
# On one CUDA machine, in under 9 minutes: step and epoch time, FLOPs utilisation, where the time goes, the tests that
# need a GPU, and a 10-epoch run on Fashion-MNIST. Writes benchmarks/results/gpu.md. Without a GPU it says so and exits.
#
#     benchmarks/gpu.sh            PYTHON=path/to/python REPORT=path/to/report.md benchmarks/gpu.sh
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}

if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo "benchmarks/gpu.sh: torch finds no CUDA device here, so there is nothing to measure" >&2
  exit 3
fi

# What the parts need: the package with its dependencies, and Fashion-MNIST (said at once, not after minutes).
"$python" -c 'from cpc_lightning.datasets.fashion_mnist import fashion_mnist; import cpc_lightning.app.run; fashion_mnist()' || {
  echo "benchmarks/gpu.sh: install the package (pip install -e .), and give Fashion-MNIST's files (CPC_DATA=FOLDER)" >&2
  exit 2
}

report=${REPORT:-benchmarks/results/gpu.md}
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
export CPC_BENCHMARK_RESULTS=$run  # the tables in benchmarks/results are a CPU's
begin=$SECONDS
failed=0

part() { # TITLE SECONDS RESULT COMMAND...: runs it within so many seconds, and shows its result, or how it failed
  local title=$1 limit=$2 result=$3 start=$SECONDS code=0
  shift 3
  timeout -k 10 "$limit" "$@" >"$run/log" 2>&1 || code=$?
  [ "$code" = 0 ] || failed=1
  {
    printf '\n# %s\n\n`%s`: exit code %s, %s s\n\n' "$title" "$*" "$code" $((SECONDS - start))
    if [ "$code" != 0 ]; then
      echo '```' && tail -n 15 "$run/log" && echo '```'
    else
      cat "$run/$result"
    fi
  } >>"$report"
}

mkdir -p "$(dirname "$report")"
printf 'Measured on %s\n' "$("$python" -c 'import torch; print(torch.cuda.get_device_name(), "torch", torch.__version__)')" >"$report"

part "Step and epoch" 150 epoch.md "$python" benchmarks/epoch.py --steps 10 --rounds 2 --sides "this library" compiled
part "FLOPs utilisation" 80 utilisation.md "$python" benchmarks/utilisation.py --steps 20
part "Where the time goes" 80 where.md "$python" benchmarks/where.py --steps 20
part "Tests that need a GPU" 80 log "$python" -m pytest -q -m "gpu and not slow"
part "10 epochs of Fashion-MNIST" 120 fashion/summary.json "$python" -m cpc_lightning dataset=fashion_mnist trainer=gpu \
  noise=symmetric noise.rate=0.5 training.epochs=10 training.warmup_epochs=2 "optimizer.schedule.milestones=[8]" \
  training.limit_batches=0.5 callbacks=none "hydra.run.dir=$run/fashion"

printf '\nAll in %s s.\n' $((SECONDS - begin)) >>"$report"
echo "wrote $report in $((SECONDS - begin)) s"
exit "$failed"
