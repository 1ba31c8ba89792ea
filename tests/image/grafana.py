"""Stands in for Grafana, which is in no Debian package: reads its provisioning from the same places, and answers the
few paths of its API that tell whether data source and dashboard are there and reach Prometheus. It draws nothing."""

import glob
import http.server
import json
import urllib.error
import urllib.request

import yaml

PROVISIONING = "/etc/grafana/provisioning"


def provisioned(kind, key):
    found = []
    for path in sorted(glob.glob(f"{PROVISIONING}/{kind}/*.yml")):
        with open(path) as file:
            text = yaml.safe_load(file)
        assert text["apiVersion"] == 1, path
        found += text[key]
    return found


def dashboards():
    found = {}
    for provider in provisioned("dashboards", "providers"):
        assert provider["type"] == "file", provider
        for path in glob.glob(provider["options"]["path"] + "/*.json"):
            with open(path) as file:
                dashboard = json.load(file)
            found[dashboard["uid"]] = dashboard
    return found


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            status, body = self.answer(self.path)
        except (KeyError, urllib.error.URLError) as error:
            status, body = 502, {"message": str(error)}
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self, path):
        if path == "/api/health":
            return 200, {"database": "ok", "version": "stand-in"}
        if path.startswith("/api/dashboards/uid/"):
            return 200, {"dashboard": DASHBOARDS[path.rsplit("/", 1)[1]]}
        if path.startswith("/api/datasources/proxy/uid/"):
            uid, rest = path.removeprefix("/api/datasources/proxy/uid/").split("/", 1)
            with urllib.request.urlopen(f"{SOURCES[uid]['url']}/{rest}", timeout=5) as answer:
                return answer.status, json.load(answer)
        return 404, {"message": "Not found"}

    def log_message(self, *_):
        pass


SOURCES = {source["uid"]: source for source in provisioned("datasources", "datasources")}
DASHBOARDS = dashboards()
http.server.ThreadingHTTPServer(("0.0.0.0", 3000), Handler).serve_forever()
