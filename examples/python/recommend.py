"""A user's recommendations: python recommend.py ADDRESS USER [SIZE]."""

import os
import sys

import tandem


def main(address: str, user: str, size: str = "10") -> None:
    """Prints item ids, best first."""
    authority = os.environ.get("AUTHORITY")
    credentials = tandem.tls_credentials(authority=authority) if authority else None
    key = os.environ.get("TANDEM_KEY")
    timeout = float(os.environ.get("TIMEOUT", "2"))
    with tandem.Client(address, timeout=timeout, credentials=credentials, key=key) as client:
        try:
            answer = client.recommend(user, max_results=int(size))
        except tandem.Error as error:
            sys.exit(f"{error.code.name} {error.reason}: {error.message}")
    for item in answer.recommendations:
        print(item.item_id)


if __name__ == "__main__":
    main(*sys.argv[1:])
