"""Nine servers whose tools have the shapes of public ones.

Names and arguments follow what agents are given in tau2-bench (airline, retail), AgentDojo (mail and
calendar, bank, chat, travel), BFCL (files) and the MCP server of GitHub; no text of theirs is copied. The
last one has lists of objects, as several of these do. See the page for the statistics that sessions share
with recorded ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from benchmarks.grants.calls import Argument, Server, ToolShape

A = Argument
PROSE: Final = A("prose")
LABEL: Final = A("label", steady=0.75)
DATE: Final = A("date", steady=0.9)
FLAG: Final = A("flag", given=0.35, steady=0.95)


def _tool(name: str, /, **arguments: Argument) -> ToolShape:
    return ToolShape(name, False, arguments)


def _read(name: str, /, *, open_world: bool = False, **arguments: Argument) -> ToolShape:
    return ToolShape(name, True, arguments, open_world)


def _rows(**members: Argument) -> Argument:
    return A("rows", members=members)


def _server(name: str, *tools: ToolShape, customers: bool = False) -> Server:
    return Server(name, {tool.name: tool for tool in tools}, customers)


MAIL: Final = _server(
    "mail",
    _read("search_emails", query=A("label", steady=0.3), sender=A("name", "people", given=0.3)),
    _read("get_unread_emails"),
    _read("search_calendar", query=A("label", steady=0.3), date=DATE),
    _read("search_files", filename=A("label", steady=0.3)),
    _read("get_contacts"),
    _read("list_folders"),
    _tool(
        "send_email",
        recipients=A("names", "people"),
        subject=LABEL,
        body=PROSE,
        cc=A("names", "people", 0.15),
    ),
    _tool(
        "create_event",
        title=LABEL,
        participants=A("names", "people"),
        start_time=DATE,
        end_time=DATE,
        location=A("label", given=0.4),
        description=A("prose", given=0.5),
    ),
    _tool("reschedule_event", event_id=A("name", "events"), new_start_time=DATE),
    _tool(
        "share_file", file_id=A("name", "files"), email=A("name", "people"), permission=A("choice", "rights")
    ),
    _tool("create_file", filename=A("name", "filenames"), content=PROSE),
    _tool("append_to_file", file_id=A("name", "files"), content=PROSE),
    _tool("delete_email", email_id=A("name", "mails")),
    _tool("delete_file", file_id=A("name", "files")),
    _tool("set_forwarding", address=A("name", "people"), enabled=FLAG),
)
BANK: Final = _server(
    "bank",
    _read("get_balance"),
    _read("get_transactions", n=A("number", "count")),
    _read("get_scheduled"),
    _read("read_file", file_path=A("name", "filenames")),
    _read("get_user_info"),
    _tool(
        "send_money", recipient=A("name", "accounts"), amount=A("number", "amount"), subject=LABEL, date=DATE
    ),
    _tool(
        "schedule_transaction",
        recipient=A("name", "accounts"),
        amount=A("number", "amount"),
        subject=LABEL,
        date=DATE,
        recurring=FLAG,
    ),
    _tool(
        "update_scheduled",
        id=A("number", "count", steady=1.0),
        amount=A("number", "amount", 0.7),
        recipient=A("name", "accounts", given=0.3),
    ),
    _tool(
        "update_user_info", street=A("label", given=0.5, steady=1.0), city=A("label", given=0.5, steady=1.0)
    ),
    _tool("update_password", password=A("own", "pw")),
)
CHAT: Final = _server(
    "chat",
    _read("get_channels"),
    _read("read_messages", channel=A("name", "channels")),
    _read("read_inbox", user=A("name", "handles")),
    _read("list_users", channel=A("name", "channels")),
    _read("get_webpage", open_world=True, url=A("url", "hosts")),
    _tool("send_channel_message", channel=A("name", "channels"), body=PROSE),
    _tool("send_direct_message", recipient=A("name", "handles"), body=PROSE),
    _tool("invite_user", user=A("name", "handles"), user_email=A("name", "people")),
    _tool("add_user_to_channel", user=A("name", "handles"), channel=A("name", "channels")),
    _tool("remove_user", user=A("name", "handles")),
    _tool("post_webpage", url=A("url", "hosts"), content=PROSE),
)
TRAVEL: Final = _server(
    "travel",
    _read("get_hotels", city=A("name", "cities")),
    _read("get_hotel_prices", hotels=A("labels", "hotels")),
    _read("get_ratings", hotels=A("labels", "hotels")),
    _read("get_restaurants", city=A("name", "cities")),
    _read("get_flights", departure=A("name", "cities"), arrival=A("name", "cities")),
    _read("get_user_info"),
    _tool("reserve_hotel", hotel=A("title", "hotels"), start_day=DATE, end_day=DATE),
    _tool("reserve_restaurant", restaurant=A("title", "restaurants"), start_time=DATE),
    _tool("reserve_car", company=A("title", "companies"), start_time=DATE, end_time=A("date", given=0.8)),
    _tool("create_event", title=LABEL, participants=A("names", "people", given=0.6), start_time=DATE),
    _tool("send_email", recipients=A("names", "people"), subject=LABEL, body=PROSE),
)
REPO: Final = _server(
    "github",
    _read("get_file_contents", owner=A("name", "owners"), repo=A("name", "repos"), path=A("path", "code")),
    _read(
        "list_issues", owner=A("name", "owners"), repo=A("name", "repos"), state=A("choice", "states", 0.6)
    ),
    _read("search_code", query=A("label", steady=0.3)),
    _read("list_commits", owner=A("name", "owners"), repo=A("name", "repos"), sha=A("name", "branches", 0.3)),
    _read(
        "get_pull_request", owner=A("name", "owners"), repo=A("name", "repos"), number=A("number", "count")
    ),
    _tool(
        "create_issue",
        owner=A("name", "owners"),
        repo=A("name", "repos"),
        title=LABEL,
        body=PROSE,
        labels=A("names", "labels", 0.4),
        assignees=A("names", "handles", 0.3),
    ),
    _tool(
        "add_issue_comment",
        owner=A("name", "owners"),
        repo=A("name", "repos"),
        issue_number=A("number", "count", steady=0.9),
        body=PROSE,
    ),
    _tool(
        "create_or_update_file",
        owner=A("name", "owners"),
        repo=A("name", "repos"),
        path=A("path", "code", steady=0.9),
        content=PROSE,
        message=LABEL,
        branch=A("name", "branches"),
    ),
    _tool(
        "create_pull_request",
        owner=A("name", "owners"),
        repo=A("name", "repos"),
        title=LABEL,
        body=A("prose", given=0.8),
        head=A("name", "branches"),
        base=A("name", "bases"),
    ),
    _tool(
        "merge_pull_request",
        owner=A("name", "owners"),
        repo=A("name", "repos"),
        pull_number=A("number", "count", steady=0.9),
        merge_method=A("choice", "merges", 0.4),
    ),
    _tool(
        "create_webhook",
        owner=A("name", "owners"),
        repo=A("name", "repos"),
        url=A("url", "hosts"),
        events=A("names", "labels"),
    ),
    _tool(
        "add_collaborator",
        owner=A("name", "owners"),
        repo=A("name", "repos"),
        username=A("name", "handles"),
        permission=A("choice", "rights"),
    ),
)
FILES: Final = _server(
    "files",
    _read("read_text_file", path=A("path", "home")),
    _read("list_directory", path=A("path", "home")),
    _read("search_files", path=A("path", "home"), pattern=A("label", steady=0.3)),
    _read("get_file_info", path=A("path", "home")),
    _tool("write_file", path=A("path", "home", steady=0.8), content=PROSE),
    _tool("edit_file", path=A("path", "home", steady=0.8), edits=A("objects", "edits"), dryRun=FLAG),
    _tool("create_directory", path=A("path", "home")),
    _tool("move_file", source=A("path", "home", steady=0.8), destination=A("path", "home", steady=0.8)),
    _tool("delete_file", path=A("path", "home")),
    _tool("run_command", command=A("name", "commands"), args=A("names", "flags", 0.7), cwd=A("path", "home")),
)
SHOP: Final = _server(
    "shop",
    _read("find_user", email=A("customer", "email")),
    _read("get_user_details", user_id=A("customer", "user_id")),
    _read("get_order_details", order_id=A("own", "#W")),
    _read("get_product_details", product_id=A("own", "")),
    _read("calculate", expression=A("label", steady=0.1)),
    _tool("cancel_order", order_id=A("own", "#W"), reason=A("title", "reasons")),
    _tool(
        "return_items",
        order_id=A("own", "#W"),
        item_ids=A("owns", ""),
        payment_method_id=A("own", "credit_card_", steady=0.95),
    ),
    _tool(
        "exchange_items",
        order_id=A("own", "#W"),
        item_ids=A("owns", ""),
        new_item_ids=A("owns", "", steady=0.9),
        payment_method_id=A("own", "credit_card_", steady=0.95),
    ),
    _tool(
        "modify_order_address",
        order_id=A("own", "#W"),
        address1=A("label", steady=1.0),
        city=A("label", steady=1.0),
        zip=A("own", ""),
    ),
    _tool(
        "modify_user_address",
        user_id=A("customer", "user_id"),
        address1=A("label", steady=1.0),
        zip=A("own", ""),
    ),
    _tool("transfer_to_human", summary=PROSE),
    customers=True,
)
AIRLINE: Final = _server(
    "airline",
    _read("get_user_details", user_id=A("customer", "user_id")),
    _read("get_reservation", reservation_id=A("own", "")),
    _read(
        "search_direct_flight",
        origin=A("name", "airports", steady=0.8),
        destination=A("name", "airports", steady=0.8),
        date=DATE,
    ),
    _read("calculate", expression=A("label", steady=0.1)),
    _tool(
        "book_reservation",
        user_id=A("customer", "user_id"),
        origin=A("name", "airports"),
        destination=A("name", "airports"),
        cabin=A("choice", "cabins", steady=0.95),
        flights=A("objects", "flights"),
        payment_methods=A("objects", "payments"),
        total_baggages=A("number", "count", steady=0.95),
        insurance=A("choice", "yesno"),
    ),
    _tool(
        "update_flights",
        reservation_id=A("own", ""),
        cabin=A("choice", "cabins", steady=0.95),
        flights=A("objects", "flights"),
        payment_id=A("own", "credit_card_", steady=0.92),
    ),
    _tool("cancel_reservation", reservation_id=A("own", "")),
    _tool(
        "update_baggages",
        reservation_id=A("own", ""),
        total_baggages=A("number", "count"),
        payment_id=A("own", "gift_card_", steady=0.92),
    ),
    _tool("send_certificate", user_id=A("customer", "user_id"), amount=A("number", "amount")),
    _tool("transfer_to_human", summary=PROSE),
    customers=True,
)
# Lists of objects in all that changes something.
HUB: Final = _server(
    "hub",
    _read("list_files", owner=A("name", "owners"), repo=A("name", "repos")),
    _read("get_order", order=A("number", "count")),
    _read("list_payments"),
    _read("get_calendar", date=DATE),
    _tool(
        "push_files",
        owner=A("name", "owners"),
        repo=A("name", "repos"),
        branch=A("name", "branches"),
        message=LABEL,
        files=_rows(path=A("path", "code", steady=0.9), content=PROSE),
    ),
    _tool(
        "pay_batch",
        payments=_rows(account=A("name", "accounts"), amount=A("number", "amount"), reference=LABEL),
        date=DATE,
    ),
    _tool(
        "invite",
        title=LABEL,
        start_time=DATE,
        attendees=_rows(email=A("name", "people"), permission=A("choice", "rights", 0.4)),
    ),
    _tool(
        "create_order",
        supplier=A("title", "companies"),
        lines=_rows(item=A("name", "filenames"), quantity=A("number", "count"), note=A("prose", given=0.3)),
    ),
)
SERVERS: Final[Mapping[str, Server]] = {
    server.name: server for server in (MAIL, BANK, CHAT, TRAVEL, REPO, FILES, SHOP, AIRLINE, HUB)
}
