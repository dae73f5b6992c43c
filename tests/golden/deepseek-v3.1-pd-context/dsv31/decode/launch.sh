#!/usr/bin/env bash
# Launch of role decode of ModelServing dsv31, rendered by Baton: change the ModelServing, not this file.
# Starts 1 of 1 DP ranks, 16 device(s) each, as 1 process(es); when one ends, all end.
set -o nounset

: "${POD_IP:?must hold the address of this pod}"
: "${WORKER_INDEX:?must count the pods of a role replica from 0}"
: "${GROUP_NAME:?must hold the name of the ServingGroup}" "${ROLE_ID:?must hold the name of the role replica}"

readonly first_port=7100
readonly process_devices=(
  "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15"
)
readonly first_rank=$((WORKER_INDEX * 1))
readonly engine_id="${GROUP_NAME}-${ROLE_ID}"

stopping=
trap 'stopping=yes' TERM INT

# Prints the interface with the most specific route to an IPv4 address; standard input is the kernel's /proc/net/route,
# whose numbers are hexadecimal with the first byte last.
interface_of() {
  local address name destination flags mask bits length longest=-1 found=
  [[ $1 =~ ^([0-9]+)\.([0-9]+)\.([0-9]+)\.([0-9]+)$ ]] || return 1
  address=$((BASH_REMATCH[4] << 24 | BASH_REMATCH[3] << 16 | BASH_REMATCH[2] << 8 | BASH_REMATCH[1]))
  while read -r name destination _ flags _ _ _ mask _; do
    [[ $destination =~ ^[0-9A-Fa-f]{8}$ ]] || continue
    # Up (1) and no reject route (0x200).
    (((16#$flags & 0x201) == 1 && (address & 16#$mask) == 16#$destination)) || continue
    for ((bits = 16#$mask, length = 0; bits > 0; bits >>= 1)); do
      ((length += bits & 1))
    done
    if ((length > longest)); then
      longest=$length found=$name
    fi
  done
  [[ -n $found ]] && printf '%s\n' "$found"
}

interface=$(interface_of "$POD_IP" </proc/net/route) || {
  echo "[baton] no IPv4 route leads to $POD_IP: set network.interface of the engine" >&2
  exit 1
}
readonly interface

# A proxy of the image or node must not catch what engines and router say to each other.
unset ftp_proxy http_proxy https_proxy FTP_PROXY HTTP_PROXY HTTPS_PROXY

# Becomes one engine process.
run_rank() {
  local port=$1
  export HCCL_IF_IP="${POD_IP}"
  export VLLM_HOST_IP="${POD_IP}"
  export GLOO_SOCKET_IFNAME="${interface}"
  export TP_SOCKET_IFNAME="${interface}"
  export HCCL_SOCKET_IFNAME="${interface}"
  export VLLM_RPC_TIMEOUT=3600000
  export VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS=30000
  export HCCL_EXEC_TIMEOUT=204
  export HCCL_CONNECT_TIMEOUT=1200
  export OMP_PROC_BIND=false
  export OMP_NUM_THREADS=1
  export PYTORCH_NPU_ALLOC_CONF=expandable_segments:True
  export HCCL_BUFFSIZE=768
  export TASK_QUEUE_ENABLE=1
  export HCCL_OP_EXPANSION_MODE=AIV
  export LD_PRELOAD=/usr/lib/aarch64-linux-gnu/libjemalloc.so.2:"${LD_PRELOAD-}"
  export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:-/usr/local/lib}":/usr/local/lib
  export VLLM_ENGINE_READY_TIMEOUT_S=3600
  export VLLM_MOONCAKE_ABORT_REQUEST_TIMEOUT=480
  export VLLM_NIXL_ABORT_REQUEST_TIMEOUT=480
  exec vllm serve /root/.cache/modelscope/hub/models/Eco-Tech/DeepSeek-V3.1_w8a8mix_mtp \
    --host 0.0.0.0 \
    --port "${port}" \
    --data-parallel-size 1 \
    --tensor-parallel-size 16 \
    --enable-expert-parallel \
    --served-model-name dsv31 \
    --trust-remote-code \
    --seed 1024 \
    --max-model-len 136000 \
    --max-num-batched-tokens 128 \
    --max-num-seqs 4 \
    --block-size 128 \
    --no-enable-prefix-caching \
    --gpu-memory-utilization 0.96 \
    --quantization ascend \
    --speculative-config '{"method": "deepseek_mtp", "num_speculative_tokens": 3}' \
    --compilation-config '{"cudagraph_capture_sizes": [1, 2, 4], "cudagraph_mode": "FULL_DECODE_ONLY"}' \
    --additional-config '{"recompute_scheduler_enable": true}' \
    --shutdown-timeout 265 \
    --kv-transfer-config '{"engine_id": "'"${engine_id}"'", "kv_connector": "MooncakeConnectorV1", "kv_connector_extra_config": {"decode": {"dp_size": 1, "tp_size": 16}, "prefill": {"dp_size": 1, "tp_size": 16}}, "kv_port": 30100, "kv_role": "kv_consumer"}'
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
