"""Validates the description of the admin API, and answers against it."""

import json
import sys
import urllib.error
import urllib.request

import jsonschema
import openapi_spec_validator


def ask(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{sys.argv[1]}/admin/v1{path}", data=data, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


document = ask("GET", "/openapi.json")
openapi_spec_validator.validate(document)

answers = {
    "ListModelsResponse": ask("GET", "/models"),
    "Model": ask("GET", "/models/add"),
    "ChangeResponse": ask("POST", "/models/add/shift", {"from": 2, "to": 3, "points": 5}),
    "GetHistoryResponse": ask("GET", "/models/add/history"),
    "ExplainResponse": ask("GET", "/models/add/explain?key=a"),
    "Error": ask("GET", "/models/nobody"),
}
with urllib.request.urlopen(f"http://{sys.argv[1]}/admin/v1/watch") as stream:
    events = []
    while not events or events[-1]["kind"] != "current":
        line = stream.readline().decode()
        if line.startswith("data: "):
            events.append(json.loads(line[len("data: ") :]))
answers["Event"] = events[0]

for name, answer in [*answers.items(), *(("Event", event) for event in events)]:
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(answer)
    known = document["components"]["schemas"][name]["properties"]
    assert set(answer) == set(known), f"{name}: {set(answer) ^ set(known)}"

print(f"OpenAPI {document['openapi']}: valid; {len(answers)} answers keep to it")
