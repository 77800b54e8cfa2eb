// franz-go, the client of the OpenTelemetry Collector, Mimir and Tempo.
package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"weir/tests/clients/contract"
)

func main() { contract.Main(produce, consume, group) }

func codec(name string) kgo.CompressionCodec {
	return map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}[name]
}

func produce(ctx context.Context, a contract.Arguments) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(a.Bootstrap), kgo.DefaultProduceTopic(a.Topic),
		kgo.ProducerBatchCompression(codec(a.Codec)), kgo.ProducerLinger(20*time.Millisecond))
	if err != nil {
		return err
	}
	defer client.Close()
	records := make([]*kgo.Record, 0, a.Count)
	for i := 0; i < a.Count; i++ {
		records = append(records, &kgo.Record{
			Key: []byte(a.Key(i)), Value: []byte(a.Value(i)), Timestamp: time.UnixMilli(a.Timestamp(i)),
			Headers: []kgo.RecordHeader{{Key: "tag", Value: []byte(a.Tag)}, {Key: "seq", Value: []byte(fmt.Sprint(i))}},
		})
	}
	return client.ProduceSync(ctx, records...).FirstErr()
}

func read(ctx context.Context, client *kgo.Client, count int) ([]*kgo.Record, []contract.Record, error) {
	var raw []*kgo.Record
	var out []contract.Record
	for len(raw) < count {
		fetches := client.PollRecords(ctx, count-len(raw))
		if err := fetches.Err(); err != nil {
			return nil, nil, err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			headers := map[string]string{}
			for _, h := range r.Headers {
				headers[h.Key] = string(h.Value)
			}
			raw = append(raw, r)
			out = append(out, contract.Record{P: r.Partition, O: r.Offset, K: string(r.Key), V: string(r.Value),
				H: headers, T: r.Timestamp.UnixMilli()})
		})
	}
	return raw, out, nil
}

func consume(ctx context.Context, a contract.Arguments) ([]contract.Record, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(a.Bootstrap), kgo.ConsumeTopics(a.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	_, out, err := read(ctx, client, a.Count)
	return out, err
}

func group(ctx context.Context, a contract.Arguments) ([]contract.Record, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(a.Bootstrap), kgo.ConsumeTopics(a.Topic), kgo.ConsumerGroup(a.Group),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	if err != nil {
		return nil, err
	}
	defer client.Close()
	raw, out, err := read(ctx, client, a.Count)
	if err != nil {
		return nil, err
	}
	return out, client.CommitRecords(ctx, raw...)
}
