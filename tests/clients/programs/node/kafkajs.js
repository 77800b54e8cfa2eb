// kafkajs 2, with its codecs from separate packages.
const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = require("kafkajs");
const { ZstdCodec } = require("zstd-codec");

CompressionCodecs[CompressionTypes.Snappy] = require("kafkajs-snappy");
CompressionCodecs[CompressionTypes.LZ4] = new (require("kafkajs-lz4"))().codec;
const zstd = new Promise((resolve) => ZstdCodec.run((z) => resolve(new z.Streaming())));
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => Buffer.from((await zstd).compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from((await zstd).decompress(buffer)),
});

const [mode, bootstrap, topic, countText, codec, tag, group] = process.argv.slice(2);
const count = Number(countText);
const BASE_TIMESTAMP_MS = 1700000000000;
const DEADLINE_MS = 45000;
const kafka = new Kafka({ clientId: "weir-tests", brokers: [bootstrap], logLevel: logLevel.ERROR });

async function produce() {
  const compression = {
    none: CompressionTypes.None,
    gzip: CompressionTypes.GZIP,
    snappy: CompressionTypes.Snappy,
    lz4: CompressionTypes.LZ4,
    zstd: CompressionTypes.ZSTD,
  }[codec];
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 });
  await producer.connect();
  const messages = Array.from({ length: count }, (_, i) => ({
    key: `${tag}-${i}`,
    value: `${tag}-${i}-${"x".repeat(100)}`,
    headers: { tag, seq: String(i) },
    timestamp: String(BASE_TIMESTAMP_MS + i),
  }));
  await producer.send({ topic, messages, compression, acks: -1 });
  await producer.disconnect();
  return { produced: count };
}

function describe(partition, message) {
  const headers = Object.fromEntries(Object.entries(message.headers).map(([k, v]) => [k, v.toString()]));
  return {
    p: partition,
    o: Number(message.offset),
    k: message.key.toString(),
    v: message.value.toString(),
    h: headers,
    t: Number(message.timestamp),
  };
}

// kafkajs reads in groups only: "consume" uses a group of its own that nothing else has committed to.
async function read(groupId) {
  const consumer = kafka.consumer({ groupId, sessionTimeout: 10000, heartbeatInterval: 1000 });
  const records = [];
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${records.length} of ${count} records read`)), DEADLINE_MS);
    const finish = () => {
      clearTimeout(timer);
      resolve();
    };
    consumer.on(consumer.events.CRASH, (event) => reject(event.payload.error));
    consumer
      .run({
        autoCommit: false,
        partitionsConsumedConcurrently: 1,
        eachMessage: async ({ partition, message }) => {
          if (records.length < count) records.push(describe(partition, message));
          if (records.length === count) finish();
        },
      })
      .catch(reject);
  });
  const ends = new Map();
  for (const r of records) ends.set(r.p, r.o + 1);
  await consumer.commitOffsets([...ends].map(([partition, offset]) => ({ topic, partition, offset: String(offset) })));
  await consumer.disconnect();
  return { records };
}

const modes = { produce, consume: () => read(`${group}-alone-${process.pid}-${Date.now()}`), group: () => read(group) };
modes[mode]()
  .then((out) => {
    process.stdout.write(JSON.stringify(out) + "\n", () => process.exit(0));
  })
  .catch((error) => {
    console.error(error);
    process.exit(1);
  });
