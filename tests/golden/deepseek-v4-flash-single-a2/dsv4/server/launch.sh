#!/usr/bin/env bash
# Launch of role server of ModelServing dsv4, rendered by Baton: change the ModelServing, not this file.
# Starts 1 of 1 DP ranks, 8 device(s) each, as 1 process(es); when one ends, all end.
set -o nounset

: "${POD_IP:?must hold the address of this pod}"
: "${WORKER_INDEX:?must count the pods of a role replica from 0}"

readonly first_port=8900
readonly process_devices=(
  "0,1,2,3,4,5,6,7"
)
readonly first_rank=$((WORKER_INDEX * 1))

stopping=
trap 'stopping=yes' TERM INT

# A proxy of the image or node must not catch what engines and router say to each other.
unset ftp_proxy http_proxy https_proxy FTP_PROXY HTTP_PROXY HTTPS_PROXY

# Becomes one engine process.
run_rank() {
  local port=$1
  export OMP_PROC_BIND=false
  export OMP_NUM_THREADS=10
  export PYTORCH_NPU_ALLOC_CONF=expandable_segments:True
  export HCCL_BUFFSIZE=1024
  export TASK_QUEUE_ENABLE=1
  export VLLM_ASCEND_ENABLE_FLASHCOMM1=1
  export HCCL_OP_EXPANSION_MODE=AIV
  export LD_PRELOAD=/usr/lib/aarch64-linux-gnu/libjemalloc.so.2:"${LD_PRELOAD-}"
  export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:-/usr/local/lib}":/usr/local/lib
  export VLLM_ENGINE_READY_TIMEOUT_S=3600
  exec vllm serve /root/.cache/modelscope/hub/models/vllm-ascend/DeepSeek-V4-Flash-w8a8-mtp \
    --host 0.0.0.0 \
    --port "${port}" \
    --data-parallel-size 1 \
    --tensor-parallel-size 8 \
    --enable-expert-parallel \
    --served-model-name dsv4 \
    --enable-auto-tool-choice \
    --max-model-len 133120 \
    --max-num-batched-tokens 8192 \
    --max-num-seqs 32 \
    --async-scheduling \
    --block-size 128 \
    --no-enable-prefix-caching \
    --tokenizer-mode deepseek_v4 \
    --tool-call-parser deepseek_v4 \
    --reasoning-parser deepseek_v4 \
    --gpu-memory-utilization 0.9 \
    --quantization ascend \
    --model-loader-extra-config '{"enable_multithread_load": "true", "num_threads": 128}' \
    --speculative-config '{"enforce_eager": true, "method": "mtp", "num_speculative_tokens": 1}' \
    --compilation-config '{"cudagraph_mode": "FULL_DECODE_ONLY"}' \
    --additional-config '{"ascend_compilation_config": {"enable_npugraph_ex": true, "enable_static_kernel": false}, "enable_cpu_binding": true, "enable_dsa_cp": true, "multistream_overlap_shared_expert": true}' \
    --shutdown-timeout 265 \
    --safetensors-load-strategy prefetch
}

readonly stop_seconds=280 # how long the ranks may drain when the pod is told to stop
readonly crash_seconds=30 # how long the others may take when one has died

# Each rank gets a process group of its own, so that what it leaves behind can be ended, too.
set -o monitor
declare -a pids=() printers=() statuses=()
exec {never}<> <(:) # a pipe that stays silent, to wait on

pause() { read -r -t 0.2 -u "$never" || true; }
say() { printf '[baton] %s\n' "$*"; }

# Prints the output of a rank with the rank in front; whole lines, so that ranks do not mix.
print_output() {
  local line
  trap '' TERM INT
  while IFS= read -r line || [[ -n $line ]]; do
    printf '[rank %s] %s\n' "$1" "$line"
  done
}

start_rank() {
  local index=$1 rank=$((first_rank + $1)) output
  exec {output}> >(print_output "$rank")
  printers+=("$!")
  run_rank "$((first_port + index))" "${process_devices[index]}" "$rank" >&"$output" 2>&1 &
  pids[index]=$!
  exec {output}>&-
}

is_running() { kill -0 "${pids[$1]}" 2>/dev/null; }

# Finds out the exit status of a rank that has ended.
collect() {
  [[ -z ${statuses[$1]-} ]] || return 0
  wait "${pids[$1]}" 2>/dev/null
  statuses[$1]=$?
}

# Sets `ended` to a rank that is no longer running; fails when all are.
find_ended() {
  for ended in "${!pids[@]}"; do
    is_running "$ended" || return 0
  done
  return 1
}

has_running() {
  local index
  for index in "${!pids[@]}"; do
    ! is_running "$index" || return 0
  done
  return 1
}

# Asks all ranks to stop, waits up to $1 seconds, kills what is left.
stop_ranks() {
  local index deadline=$((SECONDS + $1))
  for index in "${!pids[@]}"; do
    kill -TERM "${pids[index]}" 2>/dev/null
  done
  while has_running && ((SECONDS < deadline)); do
    pause
  done
  for index in "${!pids[@]}"; do
    ! is_running "$index" || say "rank $((first_rank + index)) still runs after $1 s: killing it"
    kill -KILL -- "-${pids[index]}" 2>/dev/null
    collect "$index"
  done
}

# Lets the last words of the ranks reach the log.
flush_output() {
  local printer deadline=$((SECONDS + 5))
  for printer in "${printers[@]}"; do
    while kill -0 "$printer" 2>/dev/null && ((SECONDS < deadline)); do
      pause
    done
  done
}

for index in "${!process_devices[@]}"; do
  [[ -n $stopping ]] || start_rank "$index"
done

ended=
until [[ -n $stopping ]] || find_ended; do
  pause
done

status=0
if [[ -z $stopping ]]; then
  collect "$ended"
  # A rank never ends by itself, so that even 0 is a failure.
  status=$((statuses[ended] == 0 ? 1 : statuses[ended]))
  say "rank $((first_rank + ended)) ended with status ${statuses[ended]}: stopping all"
  stop_ranks "$crash_seconds"
else
  say "told to stop: the ranks have $stop_seconds s to finish"
  stop_ranks "$stop_seconds"
  for index in "${!statuses[@]}"; do
    case ${statuses[index]} in
      0 | 143) ;; # finished, or ended by SIGTERM
      *) status=${statuses[index]} ;;
    esac
  done
fi
flush_output
say "all ranks have ended, exit status $status"
exit "$status"
