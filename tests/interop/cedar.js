// Answer requests of test_cedar.py by Cedar's own authorizer: a JSON request a line, and a decision a line.
const { createInterface } = require("node:readline");
const { isAuthorized } = require("@cedar-policy/cedar-wasm/nodejs");

createInterface({ input: process.stdin }).on("line", (line) => {
    const { policies, action, resource, context } = JSON.parse(line);
    const answer = isAuthorized({
        principal: { type: "Agent", id: "agent" },
        action: { type: "Action", id: action },
        resource: { type: "Tool", id: resource },
        context,
        policies: { staticPolicies: policies },
        entities: [],
    });
    // A request or a policy that Cedar does not read is no denial.
    console.log(answer.type === "success" ? answer.response.decision : JSON.stringify(answer));
});
