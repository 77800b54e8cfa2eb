#!/bin/bash
# Apache Kafka as the peer: one KRaft node on loopback with the settings that its own files and start script recommend.
#   kafka.sh start DIR PORT [KEY=VALUE ...]   in the background; returns once the port answers; DIR/pid is its process
#   kafka.sh run DIR PORT [KEY=VALUE ...]     in the foreground, as `weir bench matrix` starts a broker
#   kafka.sh format DIR PORT [KEY=VALUE ...]  only prepares DIR, so that the next start's time is Kafka's own
#   kafka.sh stop DIR                         ends it; DIR stays
# KEY=VALUE are further server properties: log.flush.interval.messages=1 syncs before every acknowledgement.
# Needs Java 17. The jars are those of the tests: fetched with Maven on first use, or taken from $WEIR_KAFKA_LIBS.
# KAFKA_HEAP_OPTS changes the heap (-Xms1G -Xmx1G).
set -euo pipefail

usage() { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

find_jars() {  # $1 folder that may have been prepared before
  [ ! -f "$1/libs.path" ] || { cat "$1/libs.path"; return; }
  [ -z "${WEIR_KAFKA_LIBS:-}" ] || { echo "$WEIR_KAFKA_LIBS"; return; }
  local ask='from tests.services.kafka import jars; print(jars())'
  cd "$repository"
  python3 -c "$ask" 2>/dev/null && return
  python3 -m tests.services install kafka >&2
  python3 -c "$ask"
}

# $1 folder, $2 port, then properties. The first block is Kafka's config/server.properties, the second what a node alone needs.
write_properties() {
  local folder=$1 port=$2 each
  shift 2
  {
    echo num.network.threads=3
    echo num.io.threads=8
    echo socket.send.buffer.bytes=102400
    echo socket.receive.buffer.bytes=102400
    echo socket.request.max.bytes=104857600
    echo num.recovery.threads.per.data.dir=2
    echo log.retention.hours=168
    echo log.segment.bytes=1073741824

    echo process.roles=broker,controller
    echo node.id=1
    echo "controller.quorum.voters=1@127.0.0.1:$((port + 1))"
    echo "listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))"
    echo "advertised.listeners=PLAINTEXT://127.0.0.1:$port"
    echo controller.listener.names=CONTROLLER
    echo listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
    echo "log.dirs=$folder/data"
    echo offsets.topic.replication.factor=1
    echo transaction.state.log.replication.factor=1
    echo transaction.state.log.min.isr=1
    echo share.coordinator.state.topic.replication.factor=1
    echo share.coordinator.state.topic.min.isr=1
    echo group.initial.rebalance.delay.ms=0
    for each in "$@"; do echo "$each"; done
  } > "$folder/server.properties"
  printf '%s\n' 'Configuration:' '  Appenders: {Console: {name: out, PatternLayout: {pattern: "%d %p %c{1} %m%n"}}}' \
    '  Loggers: {Root: {level: WARN, AppenderRef: {ref: out}}}' > "$folder/log4j2.yaml"
}

prepare() {
  local folder=$1 port=$2 libs
  mkdir -p "$folder"
  folder=$(cd "$folder" && pwd)
  libs=$(find_jars "$folder")
  echo "$libs" > "$folder/libs.path"
  write_properties "$folder" "$port" "${@:3}"
  java=(java)
  [ -z "${JAVA_HOME:-}" ] || java=("$JAVA_HOME/bin/java")
  common=("-Dlog4j2.configurationFile=$folder/log4j2.yaml" -cp "$libs/*")
  if [ ! -d "$folder/data" ]; then
    "${java[@]}" "${common[@]}" kafka.tools.StorageTool format --standalone -t "$(id16)" -c "$folder/server.properties" \
      > "$folder/format.log" 2>&1 ||
    "${java[@]}" "${common[@]}" kafka.tools.StorageTool format -t "$(id16)" -c "$folder/server.properties" \
      > "$folder/format.log" 2>&1 || { tail -5 "$folder/format.log" >&2; exit 1; }
  fi
  read -ra heap <<< "${KAFKA_HEAP_OPTS:--Xms1G -Xmx1G}"
  broker=("${java[@]}" "${heap[@]}" -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35
    -XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true "${common[@]}" kafka.Kafka "$folder/server.properties")
}

# A cluster id: 16 bytes in unpadded base64 with the URL alphabet, not beginning with a dash.
id16() { echo "V$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c2-22)"; }

answers() { (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }

[ $# -ge 2 ] || usage
command=$1 directory=$2
shift 2
case $command in
  start)
    [ $# -ge 1 ] || usage
    prepare "$directory" "$@"
    setsid "${broker[@]}" > "$directory/output.log" 2>&1 < /dev/null &
    echo $! > "$directory/pid"
    for _ in $(seq 900); do
      answers "$1" && exit 0
      kill -0 "$(cat "$directory/pid")" 2> /dev/null || break
      sleep 0.1
    done
    tail -20 "$directory/output.log" >&2
    echo "Kafka did not start: see $directory/output.log" >&2
    exit 1
    ;;
  format)
    [ $# -ge 1 ] || usage
    prepare "$directory" "$@"
    ;;
  run)
    [ $# -ge 1 ] || usage
    prepare "$directory" "$@"
    exec "${broker[@]}"
    ;;
  stop)
    process=$(cat "$directory/pid")
    kill "$process" 2> /dev/null || exit 0
    for _ in $(seq 300); do
      kill -0 "$process" 2> /dev/null || exit 0
      sleep 0.1
    done
    kill -9 "$process"
    ;;
  *) usage ;;
esac
