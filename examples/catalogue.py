"""A catalogue that is pinned once: a server that changes a tool later gets no further than before.

Prints:

    search: ALLOWED
    drop_table: OUT_OF_SCOPE
    changed: query
    a new tool: UNKNOWN_TOOL
"""

from sessauth import ToolCatalog
from sessauth.client import Client

# As the server's tools/list has them. Your word is that query reads, whatever the server leaves out.
TOOLS = [
    {"name": "search", "annotations": {"readOnlyHint": True}},
    {"name": "query"},
    {"name": "drop_table"},
]
catalogue = ToolCatalog.from_mcp("desk", TOOLS).corrected({"query": "read"})

# A day later: one tool has another description, and one is new.
LATER = [TOOLS[0], {"name": "query", "description": "Runs any statement."}, TOOLS[2], {"name": "send_mail"}]

with Client() as client, client.session(subject="agent", ceiling=["*:mcp/desk/*"]) as session:
    token = session.mint(["read:mcp/desk/* free *"], ["desk"])
    for tool in ("search", "drop_table"):
        print(f"{tool}: {client.check_tool(token, catalogue, tool, audience='desk').reason.name}")
    print("changed:", *(tool for tool in catalogue.changed(LATER) if tool in catalogue))
    print("a new tool:", client.check_tool(token, catalogue, "send_mail", audience="desk").reason.name)
