#!/usr/bin/env bash
# On one CUDA machine, in under 9 minutes: step and epoch time, FLOPs utilisation, where the time goes, the tests that
# need a GPU, and a 10-epoch run on Fashion-MNIST. Writes benchmarks/results/gpu.md. Without a GPU it says so and exits.
#
#     benchmarks/gpu.sh            PYTHON=path/to/python benchmarks/gpu.sh
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}

if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo "benchmarks/gpu.sh: torch finds no CUDA device here, so there is nothing to measure" >&2
  exit 3
fi

report=benchmarks/results/gpu.md
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
begin=$SECONDS
failed=0

part() { # TITLE SECONDS COMMAND...: runs it within so many seconds, says what became of it
  local title=$1 limit=$2 start=$SECONDS code=0
  shift 2
  timeout "$limit" "$@" >"$run/log" 2>&1 || code=$?
  [ "$code" = 0 ] || failed=1
  printf '\n# %s\n\n`%s`: exit code %s, %s s\n\n' "$title" "$*" "$code" $((SECONDS - start)) >>"$report"
  [ "$code" = 0 ] || { echo '```'; tail -n 15 "$run/log"; echo '```'; } >>"$report"
}

mkdir -p benchmarks/results
printf 'Measured on %s\n' "$("$python" -c 'import torch; print(torch.cuda.get_device_name(), "torch", torch.__version__)')" >"$report"

part "Step and epoch" 120 "$python" benchmarks/epoch.py --steps 10
[ -f benchmarks/results/epoch.md ] && cat benchmarks/results/epoch.md >>"$report"
part "FLOPs utilisation" 90 "$python" benchmarks/utilisation.py --steps 20
[ -f benchmarks/results/utilisation.md ] && cat benchmarks/results/utilisation.md >>"$report"
part "Where the time goes" 90 "$python" benchmarks/where.py --steps 20
[ -f benchmarks/results/where.md ] && cat benchmarks/results/where.md >>"$report"
part "Tests that need a GPU" 90 "$python" -m pytest -q -m gpu
tail -n 3 "$run/log" >>"$report"
part "10 epochs of Fashion-MNIST" 130 "$python" -m cpc_lightning dataset=fashion_mnist trainer=gpu noise=symmetric \
  noise.rate=0.5 training.epochs=10 training.warmup_epochs=2 "optimizer.schedule.milestones=[8]" callbacks=none \
  "hydra.run.dir=$run/fashion"
[ -f "$run/fashion/summary.json" ] && { echo '```'; cat "$run/fashion/summary.json"; echo '```'; } >>"$report"

printf '\nAll in %s s.\n' $((SECONDS - begin)) >>"$report"
echo "wrote $report in $((SECONDS - begin)) s"
exit "$failed"
