#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# All there is to say of a GPU in one command, within 8 minutes, without network: builds the engine
# alone for the card at hand, runs every test of the CUDA back end on it, measures what the card can
# do and what the engine makes of it. Needs a C compiler, nvcc (see tools/find-cuda), meson, ninja and
# Python; no library. The weights are random, made here and removed again.
#
# usage: tools/bench/gpu.sh [FOLDER]
#
#   FOLDER        the build, kept for the next time; build-gpu without it
#   $GPU          number of the card, 0 without it
#   $BENCH_FILES  where the models lie meanwhile (17 GB): /dev/shm if it has room, else $TMPDIR or /tmp
#   $SKIP_TESTS   not empty: only the measurements
#   $SANITIZE     not empty: compute-sanitizer over the tests of kernels too, memcheck and racecheck, for
#                 two minutes at most; measured is what the time is left for
#   $ONLY         rows to measure instead of all, as in ONLY="8b:BF16 8b:BF16:-f 8b:Q8_0"
#
# The output goes to FOLDER/bench-gpu.txt too.
set -eu

began=$(date +%s)
limit_s=470
cd "$(dirname "$0")/../.."
build=${1:-build-gpu}
gpu=${GPU:-0}

left() {
	echo $((limit_s - ($(date +%s) - began)))
}

say() {
	printf '%s\n' "$*"
}

fail() {
	say "gpu.sh: $*" >&2
	exit 1
}

# Of the card, as nvcc counts: 90. The list of all when nobody says.
find_arch() {
	nvidia-smi -i "$gpu" --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d '. ' ||
		true
}

build_engine() {
	arch=$(find_arch)
	if [ ! -e "$build/build.ninja" ]; then
		meson setup "$build" -Dengine_only=true -Dcuda=enabled -Dbuildtype=release \
			${arch:+-Dgpu_arch="$arch"} >"$build.log" 2>&1 ||
			{ tail -n 20 "$build.log" >&2; fail "meson setup failed"; }
	fi
	ninja -C "$build" >"$build.log" 2>&1 || { tail -n 40 "$build.log" >&2; fail "the build failed"; }
	say "built for sm_${arch:-all} after $(($(date +%s) - began)) s"
}

# Their verdict does not keep the measurements from being made: both are wanted of a new card.
run_tests() {
	if timeout 200 meson test -C "$build" --no-rebuild --suite device >"$build.log" 2>&1; then
		say "tests on the device: all passed"
	else
		say "tests on the device: NOT all passed"
		grep -E 'FAIL|TIMEOUT|SKIP|^[0-9]+/' "$build.log" | sed 's/^/  /' || tail -n 20 "$build.log"
		verdict=1
	fi
}

# Those that do not end in their time say nothing; whose report has errors, that.
sanitize() {
	checker=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null ||
		true)
	if [ -z "$checker" ]; then
		say "compute-sanitizer: there is none on this machine"
		return
	fi
	until=$(($(date +%s) + 120))
	for pair in memcheck:gemv memcheck:quant memcheck:rows racecheck:gemv racecheck:rows \
		racecheck:attention_decode memcheck:attention_decode memcheck:cuda_model \
		memcheck:sampling racecheck:quant racecheck:attention_prefill; do
		tool=${pair%%:*}
		test=${pair#*:}
		time_left=$((until - $(date +%s)))
		if [ "$time_left" -lt 5 ]; then
			say "$tool $test: left out, the time is up"
			continue
		fi
		rc=0
		timeout "$time_left" "$checker" --tool "$tool" --error-exitcode 9 \
			"$build/tests/simt/test_device_$test" >"$build.log" 2>&1 || rc=$?
		case $rc in
		0) say "$tool $test: clean" ;;
		124) say "$tool $test: did not end" ;;
		*)
			say "$tool $test: NOT clean (exit status $rc)"
			grep '=========' "$build.log" | head -n 12 | sed 's/^/  /'
			verdict=1
			;;
		esac
	done
}

free_gb() {
	df -Pk "$1" 2>/dev/null | awk 'NR == 2 { print int($4 / 1000000) }'
}

choose_files() {
	files=${BENCH_FILES:-/dev/shm}
	[ "$(free_gb "$files" || echo 0)" -ge 18 ] || files=${TMPDIR:-/tmp}
	[ "$(free_gb "$files")" -ge 18 ] || fail "$files has less than 18 GB free; set BENCH_FILES"
	model=$(mktemp "$files/bench-gpu-XXXXXX")
	trap 'rm -f "$model"' EXIT
	trap 'exit 1' INT TERM
}

# measure SHAPE TYPE [OPTION...]: of the file that is there, if it is that one.
measure() {
	shape=$1
	type=$2
	shift 2
	if [ "$(left)" -lt 25 ]; then
		say "$shape $type $*: left out, the time is up"
		return
	fi
	if [ "$shape $type" != "${there:-}" ]; then
		"$build/tools/random-gguf" "$shape" "$type" "$model" || fail "no room for $shape $type"
		there="$shape $type"
	fi
	say
	say "== $shape $type $*"
	timeout "$(left)" "$build/tools/bench-gpu" -g "$gpu" "$@" "$model" >"$build.log" || verdict=1
	grep -v '^GPU ' "$build.log" || say "it did not work"
}

verdict=0
rm -f "$build/bench-gpu.verdict"
{
	date -u '+%Y-%m-%d %H:%M UTC'
	nvidia-smi -i "$gpu" --query-gpu=name,driver_version,clocks.max.sm,power.limit \
		--format=csv,noheader 2>/dev/null || true
	build_engine
	[ -n "${SKIP_TESTS:-}" ] || run_tests
	[ -z "${SANITIZE:-}" ] || sanitize
	choose_files
	"$build/tools/bench-gpu" -m -g "$gpu" || fail "the GPU does not work"
	for row in ${ONLY:-8b:BF16 8b:BF16:-f 8b:Q8_0 8b:Q4_K 1b:BF16 1b:BF16:-f 1b:Q8_0 1b:Q4_K}; do
		shape=${row%%:*}
		type=${row#*:}
		case $type in
		*:*) measure "$shape" "${type%%:*}" "${type#*:}" ;;
		*) measure "$shape" "$type" ;;
		esac
	done
	say
	say "ended after $(($(date +%s) - began)) s"
	echo "$verdict" >"$build/bench-gpu.verdict"
} 2>&1 | tee "$build.txt"
mv "$build.txt" "$build/bench-gpu.txt"
exit "$(cat "$build/bench-gpu.verdict" 2>/dev/null || echo 1)"
