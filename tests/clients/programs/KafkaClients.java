// Apache Kafka's own Java client; run as a single source file.
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.*;

public class KafkaClients {
    static final long BASE_TIMESTAMP_MS = 1700000000000L;
    static final long DEADLINE_MS = 45000;

    public static void main(String[] a) throws Exception {
        String mode = a[0], bootstrap = a[1], topic = a[2], codec = a[4], tag = a[5], group = a[6];
        int count = Integer.parseInt(a[3]);
        switch (mode) {
            case "produce" -> produce(bootstrap, topic, count, codec, tag);
            case "consume" -> consume(bootstrap, topic, count);
            case "group" -> group(bootstrap, topic, count, group);
            default -> throw new IllegalArgumentException(mode);
        }
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static void produce(String bootstrap, String topic, int count, String codec, String tag) throws Exception {
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", bootstrap, "acks", "all", "enable.idempotence", true, "compression.type", codec, "linger.ms", 20);
        try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                var record = new ProducerRecord<>(
                    topic, null, BASE_TIMESTAMP_MS + i, bytes(tag + "-" + i), bytes(tag + "-" + i + "-" + "x".repeat(100)));
                record.headers().add("tag", bytes(tag)).add("seq", bytes("" + i));
                sent.add(producer.send(record));
            }
            for (var one : sent) one.get(DEADLINE_MS, TimeUnit.MILLISECONDS);
        }
        System.out.println("{\"produced\": " + count + "}");
    }

    static Map<String, Object> settings(String bootstrap, String group) {
        Map<String, Object> map = new HashMap<>();
        map.put("bootstrap.servers", bootstrap);
        map.put("enable.auto.commit", false);
        map.put("auto.offset.reset", "earliest");
        map.put("session.timeout.ms", 10000);
        map.put("heartbeat.interval.ms", 1000);
        if (group != null) map.put("group.id", group);
        return map;
    }

    static List<ConsumerRecord<String, String>> read(KafkaConsumer<String, String> consumer, int count) {
        List<ConsumerRecord<String, String>> records = new ArrayList<>();
        long deadline = System.currentTimeMillis() + DEADLINE_MS;
        while (records.size() < count && System.currentTimeMillis() < deadline)
            for (var record : consumer.poll(Duration.ofMillis(200)))
                if (records.size() < count) records.add(record);
        return records;
    }

    static void consume(String bootstrap, String topic, int count) {
        try (var consumer = new KafkaConsumer<>(settings(bootstrap, null), new StringDeserializer(), new StringDeserializer())) {
            var partitions = consumer.partitionsFor(topic).stream().map(p -> new TopicPartition(topic, p.partition())).toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            print(read(consumer, count));
        }
    }

    static void group(String bootstrap, String topic, int count, String group) {
        try (var consumer = new KafkaConsumer<>(settings(bootstrap, group), new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic));
            var records = read(consumer, count);
            Map<TopicPartition, OffsetAndMetadata> ends = new HashMap<>();
            for (var r : records) ends.put(new TopicPartition(topic, r.partition()), new OffsetAndMetadata(r.offset() + 1));
            consumer.commitSync(ends);
            print(records);
        }
    }

    static void print(List<ConsumerRecord<String, String>> records) {
        System.out.println(records.stream().map(r -> {
            String headers = StreamSupport.stream(r.headers().spliterator(), false)
                .map(h -> "\"" + h.key() + "\": \"" + new String(h.value(), StandardCharsets.UTF_8) + "\"").collect(Collectors.joining(", "));
            return String.format("{\"p\": %d, \"o\": %d, \"k\": \"%s\", \"v\": \"%s\", \"h\": {%s}, \"t\": %d}",
                r.partition(), r.offset(), r.key(), r.value(), headers, r.timestamp());
        }).collect(Collectors.joining(", ", "{\"records\": [", "]}")));
    }
}
