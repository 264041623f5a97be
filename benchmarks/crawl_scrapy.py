"""The other contestant of benchmarks/crawl.py: Scrapy, set up as its documentation advises for broad crawls.

    python crawl_scrapy.py '{"seeds": [...], "folder": "...", "settings": {}, "links": "xpath", "form": "gz"}'

The same work as tundish is given: robots.txt obeyed (Protego, as Scrapy brings it), links of a and area followed on
every host, one request and one response record a page with digests, a member or frame each at the same level
(FastWARC's writer, the fastest there is for Python; the published pipelines write with warcio at a third of its
speed), no delay. What costs it without need is off: cookies, retries' backing off, its Telnet console, its debug log;
its event loop is uvloop. It keeps its queue and what it has seen in memory, where tundish keeps both on disk. Prints
one line of JSON.
"""

import json
import os
import resource
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import scrapy
from fastwarc.stream_io import GzipWriter, ZstdWriter
from fastwarc.warc import WarcRecord, WarcRecordType
from scrapy.crawler import CrawlerProcess
from scrapy.linkextractors.lxmlhtml import LxmlLinkExtractor
from scrapy.resolver import CachingThreadedResolver
from twisted.internet.defer import Deferred, succeed

LEVEL, ZST = 4, 3  # of gzip and of zstd, as in operators/web/warc_write
SETTINGS = {
    "ROBOTSTXT_OBEY": True,
    "DOWNLOAD_DELAY": 0,
    "CONCURRENT_REQUESTS": 256,
    "CONCURRENT_REQUESTS_PER_DOMAIN": 8,
    "COOKIES_ENABLED": False,
    "TELNETCONSOLE_ENABLED": False,
    "LOG_LEVEL": "ERROR",
    "RETRY_TIMES": 2,
    "DEPTH_LIMIT": 0,
    "DOWNLOAD_MAXSIZE": 2 << 20,
    "DOWNLOAD_WARNSIZE": 0,
    "DOWNLOAD_TIMEOUT": 5,
    "REDIRECT_ENABLED": True,
    "HTTPCACHE_ENABLED": False,
    "CLOSESPIDER_ERRORCOUNT": 0,
    "REQUEST_FINGERPRINTER_IMPLEMENTATION": "2.7",
    "ASYNCIO_EVENT_LOOP": "uvloop.Loop",
    "DNS_RESOLVER": "crawl_scrapy.Loopback",
    "ITEM_PIPELINES": {"crawl_scrapy.Archive": 1},
    "USER_AGENT": "in-vitro-bench/1 (+https://heron.example/bot)",
}


class Loopback(CachingThreadedResolver):
    """Every name is here; asking anybody would cost Scrapy time."""

    def getHostByName(self, name: str, timeout: Any = ()) -> "Deferred[str]":
        return succeed("127.0.0.1")


class Archive:
    """Request and response records, compressed, appended to one file."""

    def open_spider(self, spider: scrapy.Spider) -> None:
        self.stream = open(Path(spider.folder) / f"scrapy.warc.{spider.form}", "wb")  # noqa: SIM115
        zst = spider.form == "zst"
        self.writer = (ZstdWriter if zst else GzipWriter)(self.stream, compression_level=ZST if zst else LEVEL)

    def process_item(self, item: dict[str, Any], spider: scrapy.Spider) -> dict[str, Any]:
        response = item["response"]
        request = response.request
        date = datetime.now(UTC)
        answer = f"uuid:{uuid4()}"
        self._write(WarcRecordType.request, f"uuid:{uuid4()}", request.url, date, asked(request), b"", answer)
        head = b"HTTP/1.1 %d OK\r\n%s\r\n\r\n" % (response.status, response.headers.to_string())
        self._write(WarcRecordType.response, answer, request.url, date, head, response.body, None)
        spider.archived += 1
        return item

    def _write(self, kind: Any, name: str, url: str, date: datetime, head: bytes, body: bytes, to: str | None) -> None:
        record = WarcRecord()
        record.init_headers(kind, record_urn=name.encode())
        record.record_date = date
        record.headers["WARC-Target-URI"] = url
        record.headers["Content-Type"] = f"application/http; msgtype={'request' if to else 'response'}"
        if to:
            record.headers["WARC-Concurrent-To"] = f"<urn:{to}>"
        record.set_bytes_content(head + body)
        record.write(self.writer, checksum_data=True)
        self.writer.finish()  # the member: one a record, so that an index can point at it

    def close_spider(self, spider: scrapy.Spider) -> None:
        self.writer.close()
        self.stream.close()


def asked(request: scrapy.Request) -> bytes:
    way = "/" + request.url.split("/", 3)[3]
    return b"GET %s HTTP/1.1\r\n%s\r\n\r\n" % (way.encode(), request.headers.to_string())


class Pages(scrapy.Spider):
    """Every page that links lead to."""

    name = "pages"

    def __init__(self, seeds: list[str], folder: str, links: str, form: str) -> None:
        super().__init__()
        self.start_urls, self.folder, self.links, self.form = seeds, folder, links, form
        self.extractor = LxmlLinkExtractor()
        self.stored: list[str] = []
        self.archived = 0

    def parse(self, response: Any) -> Any:
        if response.status != 200:
            return
        self.stored.append(response.url)
        yield {"response": response}
        if not isinstance(response, scrapy.http.TextResponse):
            return
        if self.links == "extractor":
            for link in self.extractor.extract_links(response):
                yield scrapy.Request(link.url)
            return
        for href in dict.fromkeys(response.xpath("//a/@href | //area/@href").getall()):
            yield response.follow(href)


def main(given: dict[str, Any]) -> None:
    """`given`: seeds, folder, settings beside SETTINGS, links (xpath, extractor)."""
    process = CrawlerProcess({**SETTINGS, **given.get("settings", {})})
    crawler = process.create_crawler(Pages)
    start, began = time.perf_counter(), time.process_time()
    form, links = given.get("form", "gz"), given.get("links", "xpath")
    process.crawl(crawler, seeds=given["seeds"], folder=given["folder"], links=links, form=form)
    process.start()
    cpu, seconds = time.process_time() - began, time.perf_counter() - start
    spider = crawler.spider
    Path(given["folder"], "stored").write_text("\n".join(spider.stored))
    stats = crawler.stats.get_stats()
    told = {"cpu": cpu, "seconds": seconds, "stored": len(spider.stored), "archived": spider.archived, "rss": rss()}
    told["requests"] = stats.get("downloader/request_count", 0)
    told["bytes"] = os.stat(Path(given["folder"], f"scrapy.warc.{form}")).st_size
    print(json.dumps(told))


def rss() -> int:
    """The most bytes of memory this process ever had (ru_maxrss would count those of who began it)."""
    if sys.platform == "linux":
        return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main(json.loads(sys.argv[1]))
