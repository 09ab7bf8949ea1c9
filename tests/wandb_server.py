"""As much of a W&B server as takes a run: what its own client sends is kept, and answered as the service would."""

import gzip
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass
class Server:
    """A server on a port of this machine, and what it was sent."""

    refuses: bool = False
    """Whether it takes no key."""
    runs: list[dict[str, Any]] = field(default_factory=list)
    """Variables of each mutation that creates or changes a run."""
    history: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Rows by the id of their run."""
    uploaded: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        kept = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                self.reply({})

            def do_PUT(self) -> None:
                self.body()
                kept.uploaded.append(self.path.removeprefix("/upload/"))
                self.reply({})

            def do_POST(self) -> None:
                content = self.body()
                if kept.refuses:
                    self.reply({}, 401)
                elif self.path.endswith("/file_stream"):
                    kept.keep_rows(self.path.split("/")[-2], json.loads(content))
                    self.reply({"exitcode": None, "limits": {}})
                elif self.path == "/graphql":
                    self.reply({"data": kept.answer(json.loads(content))})
                else:
                    self.reply({})

            def body(self) -> bytes:
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                return gzip.decompress(content) if self.headers.get("Content-Encoding") == "gzip" else content

            def reply(self, content: Any, code: int = 200) -> None:
                text = json.dumps(content).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def keep_rows(self, run: str, sent: dict[str, Any]) -> None:
        lines = sent.get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
        self.history.setdefault(run, []).extend(map(json.loads, lines))

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        query, given = asked["query"], asked.get("variables") or {}
        if "UpsertBucket" in query:
            self.runs.append(given)
            project = {"id": "1", "name": given["project"], "entity": {"id": "1", "name": "me"}}
            bucket = {"id": "1", "name": given["name"], "sweepName": None, "historyLineCount": 0, "project": project}
            return {"upsertBucket": {"bucket": bucket | {"displayName": given.get("displayName")}, "inserted": True}}
        if "CreateRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in given["files"]]
            return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}
        return {"model": {"bucket": self.known(given.get("name", ""))}}

    def known(self, run: str) -> dict[str, Any] | None:
        """What is said of a run that is continued."""
        if run not in self.history:
            return None
        rows = self.history[run]
        tail = {"historyTail": json.dumps([json.dumps(rows[-1])]), "eventsTail": "[]"} if rows else {}
        counts = {"historyLineCount": len(rows), "eventsLineCount": 0, "logLineCount": 0}
        empty = {"summaryMetrics": "{}", "config": "{}", "wandbConfig": '{"t": 1}', "tags": []}
        return {"id": "1", "name": run, "displayName": run, **counts, **tail, **empty}
