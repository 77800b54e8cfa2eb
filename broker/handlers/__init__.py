"""One file per Kafka API, with a card on top: versions, behaviour, deliberate omissions, KIPs."""
