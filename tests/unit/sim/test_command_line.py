from __future__ import annotations

import pytest

from baton.sim.command_line import CommandLine, CommandLineError, format_help, read_command_line


def read(text: str) -> CommandLine:
    return read_command_line(["m", *text.split()])


def test_a_bare_command_line_has_vllms_defaults() -> None:
    line = read_command_line(["/models/m"])
    assert (line.model, line.served_names, line.host, line.port) == ("/models/m", ("/models/m",), "0.0.0.0", 8000)
    assert (line.data, line.data_rank, line.data_local, line.data_rpc_port) == (1, None, 1, 29550)
    assert (line.tensor, line.pipeline, line.rank_devices, line.shutdown_timeout) == (1, 1, 1, 0)
    assert (line.max_model_len, line.kv_transfer_config, line.unknown) == (None, None, ())


def test_what_a_launch_script_says_is_read() -> None:
    line = read(
        "--host 0.0.0.0 --port 7101 --data-parallel-size 4 --data-parallel-rank 1 --data-parallel-address 10.0.0.1 "
        "--data-parallel-rpc-port 12321 --tensor-parallel-size 4 --served-model-name dsv4 x --block-size 64 "
        "--no-disable-hybrid-kv-cache-manager --enable-expert-parallel --shutdown-timeout 265"
    )
    assert (line.port, line.data, line.data_rank, line.data_local) == (7101, 4, 1, 1)
    assert (line.data_address, line.data_rpc_port, line.tensor) == ("10.0.0.1", 12321, 4)
    assert (line.served_names, line.block_size, line.shutdown_timeout, line.unknown) == (("dsv4", "x"), 64, 265, ())


def test_a_headless_process_says_which_ranks_or_which_node_it_has() -> None:
    line = read("-dp 4 --data-parallel-size-local 2 --headless --data-parallel-start-rank 2 -tp 4")
    assert (line.is_headless, line.data_rank, line.data_start, line.data_local, line.devices) == (True, None, 2, 2, 8)

    line = read("--nnodes 2 --node-rank 1 --headless --master-addr 10.0.0.9 --master-port 7001 -tp 4")
    assert (line.is_headless, line.nodes, line.node_rank, line.devices) == (True, 2, 1, 2)
    assert (line.master_address, line.master_port) == ("10.0.0.9", 7001)


def test_flags_may_be_short_have_underscores_or_equal_signs() -> None:
    line = read("-dp 4 -tp 2 -pp 2 -pcp 2 --data_parallel_size_local=2 --max_model_len=8K")
    assert (line.data, line.data_local, line.tensor, line.pipeline, line.rank_devices) == (4, 2, 2, 2, 8)
    assert line.max_model_len == 8192


@pytest.mark.parametrize(("text", "tokens"), [("8192", 8192), ("1k", 1000), ("1.5M", 1572864), ("auto", None)])
def test_a_length_may_have_a_unit(text: str, tokens: int | None) -> None:
    assert read(f"--max-model-len {text}").max_model_len == tokens


def test_unknown_words_are_kept() -> None:
    assert read("--speed 9 --port 7100 --tensor-parallel 2").unknown == ("--speed", "9", "--tensor-parallel", "2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("--port x", "argument --port: invalid int value: 'x'"),
        ("--port 70000", "argument --port: 70000 is not between 1 and 65535"),
        ("-tp 0", "0 is not between 1 and"),
        ("--max-model-len 3.5", "'3.5' is no number of tokens"),
        ("--max-model-len -5", "'-5' is no number of tokens"),
        ("--gpu-memory-utilization x", "invalid float value: 'x'"),
        ("--gpu-memory-utilization 1.5", "1.5 is not greater than 0 and less than or equal to 1"),
        ("--dtype int3", "invalid choice: 'int3'"),
        ("--kv-transfer-config {", "Value { cannot be converted to <function loads>"),
        ("--additional-config []", "Value [] is no JSON object"),
        ("--seed", "expected one argument"),
    ],
)
def test_a_wrong_value_ends_the_program_as_in_vllm(text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        read(text)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-dp 4 -dpn 4", r"data_parallel_rank \(4\) must be in the range \[0, 4\)"),
        ("-dp 4 -dpn -1", r"data_parallel_rank \(-1\) must be in the range \[0, 4\)"),
        ("-dpn 0", "data_parallel_external_lb can only be set when data_parallel_size > 1"),
        ("-dp 4 -dpn 0 -dpl 2", "data_parallel_size_local must be 1 or None when data_parallel_rank is set"),
        ("-dp 2 -dpl 4", r"data_parallel_size_local \(4\) must be <= data_parallel_size \(2\)"),
        (
            "--max-num-seqs 60 --max-num-batched-tokens 30",
            r"max_num_batched_tokens \(30\) must be greater than or equal to max_num_seqs \(60\)",
        ),
        ("-tp 3 --nnodes 2", r"`--nnodes 2` must evenly divide the total world size \(3\)"),
        ("-tp 2 --nnodes 2 --node-rank 2 --headless", "`--node-rank` must be between 0 and 1; got `--node-rank 2`"),
        ("-tp 2 --nnodes 2 --node-rank 1", "should not be called on follower node: use --headless"),
        (
            "-tp 2 -n 2 --distributed-executor-backend ray",
            "nnodes > 1 can only be set when distributed executor backend",
        ),
        ("-dp 2 -tp 2 -n 2", "several DP ranks and --nnodes are not simulated together"),
        ("-dp 4 -dpl 2 --data-parallel-start-rank 2", "hybrid load balancing"),
        ("-dp 4 -dpl 2 --headless --data-parallel-start-rank 4", r"data_parallel_rank \(4\) must be in the range"),
        ("-dp 4 -dpl 2 --headless --data-parallel-start-rank 1", "different numbers of DP ranks on nodes"),
        ("-dp 4 -dpl 2 --headless", "a headless process with DP rank 0 is not simulated"),
        (
            "-dp 4 -dpl 2 --headless --data-parallel-start-rank 2 --api-server-count 1",
            "--api-server-count=1 cannot be used with --headless",
        ),
    ],
)
def test_values_that_do_not_go_together_are_refused(text: str, message: str) -> None:
    with pytest.raises(CommandLineError, match=message):
        read(text)


def test_a_model_is_needed() -> None:
    with pytest.raises(CommandLineError, match="no model"):
        read_command_line([])
    assert read_command_line(["--model", "m"]).model == "m"


def test_the_help_lists_the_options() -> None:
    assert "--kv-transfer-config" in format_help()
