// An OpenID provider on loopback: oidc-provider, in memory, with the client "desk". It logs in at once, without a
// page, whom the request's login_hint names. Arguments: the folder of the package, the address for logout tokens.
// Each line of stdin that says "rotate" gives it another key; the former one stays published. It ends with stdin.
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const [folder, logoutUri] = process.argv.slice(2);
const load = (path) => import(pathToFileURL(`${folder}/lib/${path}`));
const { Provider } = await load('index.js');
const { createMemoryAdapter } = await load('adapters/memory_adapter.js');

function newKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' };
}

// The first one signs.
let keys = [newKey()];
let provider;
let handle;

const server = createServer((request, response) => {
  const interaction = request.url.startsWith('/interaction/');
  const answer = interaction ? logIn(request, response) : handle(request, response);
  Promise.resolve(answer).catch((error) => {
    console.error(error);
    response.writeHead(500).end();
  });
});

// What was asked for is granted; the login and the consent are one step.
async function logIn(request, response) {
  const { params } = await provider.interactionDetails(request, response);
  const grant = new provider.Grant({ accountId: params.login_hint, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  if (params.resource) grant.addResourceScope(params.resource, params.scope);
  const result = { login: { accountId: params.login_hint }, consent: { grantId: await grant.save() } };
  await provider.interactionFinished(request, response, result);
}

const configuration = {
  adapter: createMemoryAdapter(),
  clients: [{
    client_id: 'desk',
    token_endpoint_auth_method: 'none',
    application_type: 'native',
    grant_types: ['authorization_code', 'refresh_token'],
    redirect_uris: ['http://127.0.0.1/callback'],
    post_logout_redirect_uris: ['http://127.0.0.1/goodbye'],
    ...(logoutUri && { backchannel_logout_uri: logoutUri, backchannel_logout_session_required: true }),
  }],
  claims: { openid: ['sub'], groups: ['groups'] },
  scopes: ['openid', 'offline_access', 'groups'],
  // Claims of scopes are in the ID token too, not at the userinfo endpoint alone.
  conformIdTokenClaims: false,
  async findAccount(context, id) {
    return { accountId: id, claims: async () => ({ sub: id, groups: ['staff', 'support'] }) };
  },
  cookies: { keys: [randomUUID()] },
  features: {
    devInteractions: { enabled: false },
    backchannelLogout: { enabled: Boolean(logoutUri) },
    rpInitiatedLogout: { enabled: true },
    // An access token for a service that is named is a JWT for it, and not for the userinfo endpoint.
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: async (context, audience) => ({ audience, scope: '', accessTokenFormat: 'jwt' }),
    },
  },
  interactions: { url: (context, interaction) => `/interaction/${interaction.uid}` },
  ttl: { Interaction: 600, Grant: 86400, Session: 86400, IdToken: 3600, AccessToken: 3600, RefreshToken: 86400 },
  // The dispatcher it would use lets no request go to loopback.
  fetch: (url, { dispatcher, ...options }) => fetch(url, options),
};

// Keys are fixed for the life of a provider; the next one has the same storage, so the logins stay.
function publish() {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  provider = new Provider(issuer, { ...configuration, jwks: { keys } });
  provider.on('server_error', (context, error) => console.error(error));
  provider.on('backchannel.error', (context, error) => console.error(error));
  handle = provider.callback();
}

server.listen(0, '127.0.0.1', () => {
  publish();
  console.log(provider.issuer);
});
createInterface({ input: process.stdin })
  .on('line', (line) => {
    if (line === 'rotate') {
      keys = [newKey(), keys[0]];
      publish();
      console.log(keys[0].kid);
    }
  })
  .on('close', () => process.exit());
