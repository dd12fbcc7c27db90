<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" language="pt_BR" sourcelanguage="en">
    <context>
        <name>mcnet-avatar</name>
        <message>
            <source>(none is bundled)</source>
            <translation>(nenhum está incluído)</translation>
        </message>
        <message>
            <source>1 to 6: 64 px halve six times</source>
            <translation>de 1 a 6: 64 px podem ser divididos ao meio seis vezes</translation>
        </message>
        <message>
            <source>A call hears nothing: {trouble}.</source>
            <translation>Uma chamada não ouve nada: {trouble}.</translation>
        </message>
        <message>
            <source>A call hears you {delay_ms:.0f} ms late, with the picture.</source>
            <translation>Uma chamada ouve você {delay_ms:.0f} ms depois, junto com a imagem.</translation>
        </message>
        <message>
            <source>A device that every call program lists. It needs a kernel module, and root once.</source>
            <translation>Um dispositivo que todo programa de chamada lista. Precisa de um módulo do kernel, e de root uma vez.</translation>
        </message>
        <message>
            <source>A folder for recordings</source>
            <translation>Uma pasta para gravações</translation>
        </message>
        <message>
            <source>A folder…</source>
            <translation>Uma pasta…</translation>
        </message>
        <message>
            <source>A lattice drawn on the portrait, moved as the portrait is</source>
            <translation>Uma grade desenhada sobre o retrato e movida como ele</translation>
        </message>
        <message>
            <source>A model</source>
            <translation>Um modelo</translation>
        </message>
        <message>
            <source>A model's folder, or that of a run that learns</source>
            <translation>A pasta de um modelo ou de um treinamento em andamento</translation>
        </message>
        <message>
            <source>A motion file for the avatar that idles</source>
            <translation>Um arquivo de movimento para o avatar em repouso</translation>
        </message>
        <message>
            <source>A motion file in the camera's place</source>
            <translation>Um arquivo de movimento no lugar da câmera</translation>
        </message>
        <message>
            <source>A motion file…</source>
            <translation>Um arquivo de movimento…</translation>
        </message>
        <message>
            <source>A phone with a camera app, or any camera with an address on your network</source>
            <translation>Um telefone com um aplicativo de câmera, ou qualquer câmera com um endereço na sua rede</translation>
        </message>
        <message>
            <source>A picture as background</source>
            <translation>Uma imagem de fundo</translation>
        </message>
        <message>
            <source>A picture for the slate</source>
            <translation>Uma imagem para a tela de espera</translation>
        </message>
        <message>
            <source>A picture of yours that the slate shows</source>
            <translation>Uma imagem sua que a tela de espera mostra</translation>
        </message>
        <message>
            <source>A picture of yours that the slate shows; now: {file}</source>
            <translation>Uma imagem sua que a tela de espera mostra; agora: {file}</translation>
        </message>
        <message>
            <source>A picture…</source>
            <translation>Uma imagem…</translation>
        </message>
        <message>
            <source>A safe start avoids what may have been the cause: the processor computes, there is no virtual camera, and all settings are the defaults. Your own are kept for the next start.</source>
            <translation>Uma inicialização segura evita o que pode ter sido a causa: o processador calcula, não há câmera virtual e todas as configurações são as padrão. As suas ficam guardadas para a próxima inicialização.</translation>
        </message>
        <message>
            <source>A video as background</source>
            <translation>Um vídeo como fundo</translation>
        </message>
        <message>
            <source>A video in the camera's place</source>
            <translation>Um vídeo no lugar da câmera</translation>
        </message>
        <message>
            <source>A video…</source>
            <translation>Um vídeo…</translation>
        </message>
        <message>
            <source>AKD of copying</source>
            <translation>AKD em relação à cópia</translation>
        </message>
        <message>
            <source>Absolute</source>
            <translation>Absoluto</translation>
        </message>
        <message>
            <source>Add a picture from a file</source>
            <translation>Adicionar uma imagem de um arquivo</translation>
        </message>
        <message>
            <source>Add a picture from the clipboard</source>
            <translation>Adicionar uma imagem da área de transferência</translation>
        </message>
        <message>
            <source>Add a picture of yours (Ctrl+O), or drop one anywhere</source>
            <translation>Adicionar uma imagem sua (Ctrl+O), ou solte uma em qualquer lugar</translation>
        </message>
        <message>
            <source>Add a portrait</source>
            <translation>Adicionar um retrato</translation>
        </message>
        <message>
            <source>Add neither this picture nor those that wait</source>
            <translation>Não adicionar esta imagem nem as que esperam</translation>
        </message>
        <message>
            <source>Add the picture in the clipboard (Ctrl+V)</source>
            <translation>Adicionar a imagem da área de transferência (Ctrl+V)</translation>
        </message>
        <message>
            <source>Add yours…</source>
            <translation>O seu…</translation>
        </message>
        <message>
            <source>Add…</source>
            <translation>Adicionar…</translation>
        </message>
        <message>
            <source>Adjust the crop</source>
            <translation>Ajustar o corte</translation>
        </message>
        <message>
            <source>Allow it in System Settings &gt; {place}</source>
            <translation>Permita em Ajustes do Sistema &gt; {place}</translation>
        </message>
        <message>
            <source>Always dark</source>
            <translation>Sempre escuro</translation>
        </message>
        <message>
            <source>Always light</source>
            <translation>Sempre claro</translation>
        </message>
        <message>
            <source>Another colour</source>
            <translation>Outra cor</translation>
        </message>
        <message>
            <source>Another file…</source>
            <translation>Outro arquivo…</translation>
        </message>
        <message>
            <source>Another name for {preset}:</source>
            <translation>Outro nome para {preset}:</translation>
        </message>
        <message>
            <source>As the desktop</source>
            <translation>Como a área de trabalho</translation>
        </message>
        <message>
            <source>As the system</source>
            <translation>Como o sistema</translation>
        </message>
        <message>
            <source>Attention</source>
            <translation>Atenção</translation>
        </message>
        <message>
            <source>Automatic</source>
            <translation>Automático</translation>
        </message>
        <message>
            <source>Automatic crop</source>
            <translation>Corte automático</translation>
        </message>
        <message>
            <source>Automatic: {device}</source>
            <translation>Automático: {device}</translation>
        </message>
        <message>
            <source>Avatar</source>
            <translation>Avatar</translation>
        </message>
        <message>
            <source>Back to the preview (Escape)</source>
            <translation>Voltar à prévia (Esc)</translation>
        </message>
        <message>
            <source>Background</source>
            <translation>Fundo</translation>
        </message>
        <message>
            <source>Background: {name}</source>
            <translation>Fundo: {name}</translation>
        </message>
        <message>
            <source>Before and after the memory compensates them, by the same principal components</source>
            <translation>Antes e depois de a memória as compensar, pelos mesmos componentes principais</translation>
        </message>
        <message>
            <source>Begins…</source>
            <translation>Começando…</translation>
        </message>
        <message>
            <source>Blinks, and eyes wide open.</source>
            <translation>Piscadas e olhos bem abertos.</translation>
        </message>
        <message>
            <source>Blur</source>
            <translation>Desfoque</translation>
        </message>
        <message>
            <source>Brows</source>
            <translation>Sobrancelhas</translation>
        </message>
        <message>
            <source>Browsers and OBS see it once their PipeWire camera is switched on; the apps of Zoom and Teams do not.</source>
            <translation>Navegadores e OBS a veem quando a câmera PipeWire deles está ligada; os aplicativos do Zoom e do Teams não.</translation>
        </message>
        <message>
            <source>CALIBRATING</source>
            <translation>CALIBRANDO</translation>
        </message>
        <message>
            <source>Calibrate</source>
            <translation>Calibrar</translation>
        </message>
        <message>
            <source>Calibrate (F)</source>
            <translation>Calibrar (F)</translation>
        </message>
        <message>
            <source>Calibrate hands-free (F)</source>
            <translation>Calibrar com as mãos livres (F)</translation>
        </message>
        <message>
            <source>Calibrate hands-free: the best frame of a second or two</source>
            <translation>Calibrar com as mãos livres: o melhor quadro de um ou dois segundos</translation>
        </message>
        <message>
            <source>Calibrate: this very frame is the reference</source>
            <translation>Calibrar: este exato quadro é a referência</translation>
        </message>
        <message>
            <source>Call this picture of yours something else (F2)</source>
            <translation>Dar outro nome a esta imagem sua (F2)</translation>
        </message>
        <message>
            <source>Call this preset something else</source>
            <translation>Dar outro nome a esta predefinição</translation>
        </message>
        <message>
            <source>Calms jitter; a slow movement is shown that much later.</source>
            <translation>Acalma a tremulação; um movimento lento aparece com esse atraso.</translation>
        </message>
        <message>
            <source>Camera</source>
            <translation>Câmera</translation>
        </message>
        <message>
            <source>Camera {number}</source>
            <translation>Câmera {number}</translation>
        </message>
        <message>
            <source>Can be chosen in the window: {words}.</source>
            <translation>Pode ser escolhida na janela: {words}.</translation>
        </message>
        <message>
            <source>Cancel</source>
            <translation>Cancelar</translation>
        </message>
        <message>
            <source>Cancel all</source>
            <translation>Cancelar tudo</translation>
        </message>
        <message>
            <source>Chain from the camera to the call</source>
            <translation>Cadeia da câmera até a chamada</translation>
        </message>
        <message>
            <source>Change…</source>
            <translation>Alterar…</translation>
        </message>
        <message>
            <source>Choose another picture or video</source>
            <translation>Escolher outra imagem ou vídeo</translation>
        </message>
        <message>
            <source>Choose two to four views of the network's inside</source>
            <translation>Escolher de duas a quatro vistas do interior da rede</translation>
        </message>
        <message>
            <source>Choose {camera}</source>
            <translation>Escolha {camera}</translation>
        </message>
        <message>
            <source>Choose “{name}” in your call program. Nobody listens to it yet.</source>
            <translation>Escolha “{name}” no seu programa de chamada. Ninguém o ouve ainda.</translation>
        </message>
        <message>
            <source>Close</source>
            <translation>Fechar</translation>
        </message>
        <message>
            <source>Close the programs that use it and load the module again</source>
            <translation>Feche os programas que o usam e carregue o módulo de novo</translation>
        </message>
        <message>
            <source>Close {by}</source>
            <translation>Feche {by}</translation>
        </message>
        <message>
            <source>Column</source>
            <translation>Coluna</translation>
        </message>
        <message>
            <source>Command</source>
            <translation>Comando</translation>
        </message>
        <message>
            <source>Computer</source>
            <translation>Computador</translation>
        </message>
        <message>
            <source>Content Credentials</source>
            <translation>Credenciais de conteúdo</translation>
        </message>
        <message>
            <source>Control from outside</source>
            <translation>Controle externo</translation>
        </message>
        <message>
            <source>Controls</source>
            <translation>Controles</translation>
        </message>
        <message>
            <source>Copy</source>
            <translation>Copiar</translation>
        </message>
        <message>
            <source>Copy the token</source>
            <translation>Copiar o token</translation>
        </message>
        <message>
            <source>Copy this command</source>
            <translation>Copiar este comando</translation>
        </message>
        <message>
            <source>Crop by the face that was found</source>
            <translation>Cortar pelo rosto encontrado</translation>
        </message>
        <message>
            <source>Crop of the portrait</source>
            <translation>Corte do retrato</translation>
        </message>
        <message>
            <source>Crop of {name}</source>
            <translation>Corte de {name}</translation>
        </message>
        <message>
            <source>Crop of {name} ({number} of {of})</source>
            <translation>Corte de {name} ({number} de {of})</translation>
        </message>
        <message>
            <source>Ctrl</source>
            <translation>Ctrl</translation>
        </message>
        <message>
            <source>Cut the person out</source>
            <translation>Recortar a pessoa</translation>
        </message>
        <message>
            <source>DROP</source>
            <translation>SOLTAR</translation>
        </message>
        <message>
            <source>Dark</source>
            <translation>Escuro</translation>
        </message>
        <message>
            <source>Delete</source>
            <translation>Excluir</translation>
        </message>
        <message>
            <source>Delete preset</source>
            <translation>Excluir predefinição</translation>
        </message>
        <message>
            <source>Delete this preset; the portraits keep their strengths</source>
            <translation>Excluir esta predefinição; os retratos mantêm as intensidades deles</translation>
        </message>
        <message>
            <source>Device</source>
            <translation>Dispositivo</translation>
        </message>
        <message>
            <source>Dismiss</source>
            <translation>Dispensar</translation>
        </message>
        <message>
            <source>Do what the message proposes</source>
            <translation>Fazer o que a mensagem propõe</translation>
        </message>
        <message>
            <source>Drag the square, or its corners. Keys: arrows move, plus and minus resize, Page Up and Down turn, comma and full stop straighten.</source>
            <translation>Arraste o quadrado ou seus cantos. Teclas: as setas movem, mais e menos redimensionam, Page Up e Page Down giram, vírgula e ponto endireitam.</translation>
        </message>
        <message>
            <source>Draw on your picture what was found in it (O).</source>
            <translation>Desenha na sua imagem o que foi encontrado nela (O).</translation>
        </message>
        <message>
            <source>Draw skin, teeth, lids</source>
            <translation>Desenhar pele, dentes e pálpebras</translation>
        </message>
        <message>
            <source>Draws what the network cannot show of this portrait: its skin where it moves, the inside of a mouth that its picture keeps shut, and lids that close. For motion in space; nothing of your own picture goes into it.</source>
            <translation>Desenha o que a rede não consegue mostrar deste retrato: a pele onde ela se move, o interior de uma boca que na imagem está fechada e as pálpebras que se fecham. Para o movimento no espaço; nada da sua própria imagem é usado.</translation>
        </message>
        <message>
            <source>Drop a picture to add a portrait, or a video or motion file to stand in for the camera.</source>
            <translation>Solte uma imagem para adicionar um retrato, ou um vídeo ou arquivo de movimento para ficar no lugar da câmera.</translation>
        </message>
        <message>
            <source>Each part of motion and expression for itself, in space only.</source>
            <translation>Cada parte do movimento e da expressão por si, só no espaço.</translation>
        </message>
        <message>
            <source>Enable RPM Fusion's free repository (rpmfusion.org tells how), then install it</source>
            <translation>Ative o repositório livre do RPM Fusion (rpmfusion.org explica como) e depois instale-o</translation>
        </message>
        <message>
            <source>Enter keeps the name, Escape the one before.</source>
            <translation>Enter mantém o nome, Esc o anterior.</translation>
        </message>
        <message>
            <source>Everything is ready.</source>
            <translation>Tudo está pronto.</translation>
        </message>
        <message>
            <source>Expression</source>
            <translation>Expressão</translation>
        </message>
        <message>
            <source>FAULT</source>
            <translation>FALHA</translation>
        </message>
        <message>
            <source>Features</source>
            <translation>Características</translation>
        </message>
        <message>
            <source>Figures</source>
            <translation>Números</translation>
        </message>
        <message>
            <source>Figures: not measured</source>
            <translation>Números: não medidos</translation>
        </message>
        <message>
            <source>Figures: {figures}</source>
            <translation>Números: {figures}</translation>
        </message>
        <message numerus="yes">
            <source>Figures: {figures} ({n} clips that it never saw)</source>
            <translation>
                <numerusform>Números: {figures} ({n} clipe que ele nunca viu)</numerusform>
                <numerusform>Números: {figures} ({n} clipes que ele nunca viu)</numerusform>
            </translation>
        </message>
        <message>
            <source>Find the fastest way to run the model on this computer (a few seconds), and remember it</source>
            <translation>Encontra a forma mais rápida de rodar o modelo neste computador (alguns segundos) e a guarda</translation>
        </message>
        <message>
            <source>Fine detail</source>
            <translation>Detalhes finos</translation>
        </message>
        <message>
            <source>Fine-tune</source>
            <translation>Ajuste fino</translation>
        </message>
        <message>
            <source>First steps</source>
            <translation>Primeiros passos</translation>
        </message>
        <message>
            <source>Flip what the call sees (T).</source>
            <translation>Inverte o que a chamada vê (T).</translation>
        </message>
        <message>
            <source>Folder of recordings</source>
            <translation>Pasta das gravações</translation>
        </message>
        <message>
            <source>Framing</source>
            <translation>Enquadramento</translation>
        </message>
        <message>
            <source>Gaze</source>
            <translation>Olhar</translation>
        </message>
        <message>
            <source>Generated</source>
            <translation>Gerado</translation>
        </message>
        <message>
            <source>Give the output to call programs as a camera. It starts with the slate; then go live.</source>
            <translation>Dá a saída aos programas de chamada como uma câmera. Começa com a tela de espera; depois, entre ao vivo.</translation>
        </message>
        <message>
            <source>Go live</source>
            <translation>Ir ao vivo</translation>
        </message>
        <message>
            <source>Go live, or stop</source>
            <translation>Ir ao vivo, ou parar</translation>
        </message>
        <message>
            <source>HOLD</source>
            <translation>PARADO</translation>
        </message>
        <message>
            <source>Hands-free</source>
            <translation>Mãos livres</translation>
        </message>
        <message>
            <source>Have it at every start of the system</source>
            <translation>Tê-lo em toda inicialização do sistema</translation>
        </message>
        <message>
            <source>Heard: {name}</source>
            <translation>Ouvindo: {name}</translation>
        </message>
        <message>
            <source>Hide</source>
            <translation>Ocultar</translation>
        </message>
        <message>
            <source>How far the background is out of focus.</source>
            <translation>Quanto o fundo fica fora de foco.</translation>
        </message>
        <message>
            <source>How far the enlarged portrait is sharpened.</source>
            <translation>Quanto o retrato ampliado é acentuado.</translation>
        </message>
        <message>
            <source>How far the head moves.</source>
            <translation>Quanto a cabeça se move.</translation>
        </message>
        <message>
            <source>How large the portrait stands in the picture (the mouse wheel over the preview).</source>
            <translation>Que tamanho o retrato tem na imagem (a roda do mouse sobre a prévia).</translation>
        </message>
        <message>
            <source>How long a process of its own was busy with computing one frame once more</source>
            <translation>Quanto tempo um processo à parte levou para calcular um quadro mais uma vez</translation>
        </message>
        <message>
            <source>How much of the crop your face fills (W and S).</source>
            <translation>Quanto do corte o seu rosto preenche (W e S).</translation>
        </message>
        <message>
            <source>How often calls and recordings get a picture.</source>
            <translation>Com que frequência chamadas e gravações recebem uma imagem.</translation>
        </message>
        <message>
            <source>How strongly mouth, eyes and brows move.</source>
            <translation>Com que força boca, olhos e sobrancelhas se movem.</translation>
        </message>
        <message>
            <source>I may use this picture</source>
            <translation>Eu posso usar esta imagem</translation>
        </message>
        <message>
            <source>IDLE</source>
            <translation>REPOUSO</translation>
        </message>
        <message>
            <source>If there is none, the device keeps an old format: free it</source>
            <translation>Se não houver nenhum, o dispositivo mantém um formato antigo: libere-o</translation>
        </message>
        <message>
            <source>In a call</source>
            <translation>Em uma chamada</translation>
        </message>
        <message>
            <source>In space</source>
            <translation>No espaço</translation>
        </message>
        <message>
            <source>In the plane</source>
            <translation>No plano</translation>
        </message>
        <message>
            <source>In this window 0 shows the slate; a key chosen here does so from every other one, too.</source>
            <translation>Nesta janela, 0 mostra a tela de espera; uma tecla escolhida aqui faz isso também de qualquer outra.</translation>
        </message>
        <message>
            <source>Inside the network</source>
            <translation>Dentro da rede</translation>
        </message>
        <message>
            <source>Install OBS Studio 30 or newer from {address}</source>
            <translation>Instale o OBS Studio 30 ou mais novo de {address}</translation>
        </message>
        <message>
            <source>Install OBS Studio from {address} (it need not run), then restart your call program</source>
            <translation>Instale o OBS Studio de {address} (não precisa estar em execução) e reinicie o seu programa de chamada</translation>
        </message>
        <message>
            <source>Install it</source>
            <translation>Instale-o</translation>
        </message>
        <message>
            <source>Install it (for another kernel than linux, its own headers: linux-lts-headers, say)</source>
            <translation>Instale-o (para outro kernel que não linux, com os cabeçalhos dele, por exemplo linux-lts-headers)</translation>
        </message>
        <message>
            <source>Install your distribution's package v4l2loopback (or v4l2loopback-dkms)</source>
            <translation>Instale o pacote v4l2loopback (ou v4l2loopback-dkms) da sua distribuição</translation>
        </message>
        <message>
            <source>Install your distribution's packages pipewire and wireplumber</source>
            <translation>Instale os pacotes pipewire e wireplumber da sua distribuição</translation>
        </message>
        <message>
            <source>It has no card with figures: nobody has told how good it is (mcnet-train evaluate measures it).</source>
            <translation>Ele não tem ficha com números: ninguém disse quão bom ele é (mcnet-train evaluate mede isso).</translation>
        </message>
        <message>
            <source>It is a pickled checkpoint without a card: it is read without running code, but nobody tells how good it is or under which licence it may be used.</source>
            <translation>É um checkpoint pickle sem ficha: é lido sem executar código, mas ninguém diz quão bom ele é nem sob qual licença pode ser usado.</translation>
        </message>
        <message>
            <source>It is being switched on…</source>
            <translation>Está sendo ligado…</translation>
        </message>
        <message>
            <source>It is off: {why}.</source>
            <translation>Está desligado: {why}.</translation>
        </message>
        <message>
            <source>It is worse than showing the portrait as it is: its pictures are off by {copied:.0%} of what that would be.</source>
            <translation>É pior do que mostrar o retrato como está: as imagens erram em {copied:.0%} do que isso daria.</translation>
        </message>
        <message>
            <source>It shows me, or the person in it agrees, or nobody real is in it.</source>
            <translation>Ela mostra a mim, a pessoa nela concorda, ou não há ninguém real nela.</translation>
        </message>
        <message>
            <source>Its card is being read…</source>
            <translation>A ficha está sendo lida…</translation>
        </message>
        <message>
            <source>Join the group of video devices, then log out and in again</source>
            <translation>Entre no grupo dos dispositivos de vídeo, depois saia da sessão e entre de novo</translation>
        </message>
        <message>
            <source>Keep these strengths under a name</source>
            <translation>Guardar estas intensidades com um nome</translation>
        </message>
        <message>
            <source>Keep this crop and animate it</source>
            <translation>Manter este corte e animá-lo</translation>
        </message>
        <message>
            <source>Key for the slate, from every window</source>
            <translation>Tecla da tela de espera, de qualquer janela</translation>
        </message>
        <message>
            <source>Keys</source>
            <translation>Teclas</translation>
        </message>
        <message>
            <source>Kind of virtual camera</source>
            <translation>Tipo de câmera virtual</translation>
        </message>
        <message>
            <source>L1 of copying</source>
            <translation>L1 em relação à cópia</translation>
        </message>
        <message>
            <source>L1 of copying, of what it learns from</source>
            <translation>L1 em relação à cópia, nos dados com que aprende</translation>
        </message>
        <message>
            <source>LIVE</source>
            <translation>AO VIVO</translation>
        </message>
        <message>
            <source>Landmarks and keypoints</source>
            <translation>Marcos e pontos-chave</translation>
        </message>
        <message>
            <source>Language</source>
            <translation>Idioma</translation>
        </message>
        <message>
            <source>Lattice</source>
            <translation>Grade</translation>
        </message>
        <message>
            <source>Leave everything as it was (Escape)</source>
            <translation>Deixar tudo como estava (Esc)</translation>
        </message>
        <message>
            <source>Leave the slate up; the call keeps its picture (G)</source>
            <translation>Deixar a tela de espera; a chamada mantém a imagem (G)</translation>
        </message>
        <message>
            <source>Let a Stream Deck, OBS or scripts reach slate, portraits and recordings; on this computer alone.</source>
            <translation>Deixa um Stream Deck, o OBS ou scripts controlarem tela de espera, retratos e gravações; só neste computador.</translation>
        </message>
        <message>
            <source>Let call programs see the output; it starts with the slate</source>
            <translation>Deixa os programas de chamada verem a saída; começa com a tela de espera</translation>
        </message>
        <message>
            <source>Level</source>
            <translation>Nível</translation>
        </message>
        <message>
            <source>Level of the microphone</source>
            <translation>Nível do microfone</translation>
        </message>
        <message>
            <source>Licence: {licence}</source>
            <translation>Licença: {licence}</translation>
        </message>
        <message>
            <source>Lids</source>
            <translation>Pálpebras</translation>
        </message>
        <message>
            <source>Lift slate</source>
            <translation>Tirar espera</translation>
        </message>
        <message>
            <source>Light</source>
            <translation>Claro</translation>
        </message>
        <message>
            <source>Lips, jaw and chin.</source>
            <translation>Lábios, mandíbula e queixo.</translation>
        </message>
        <message>
            <source>List all keys (?)</source>
            <translation>Listar todas as teclas (?)</translation>
        </message>
        <message>
            <source>Load the module</source>
            <translation>Carregue o módulo</translation>
        </message>
        <message>
            <source>Look again for a virtual camera</source>
            <translation>Procurar de novo uma câmera virtual</translation>
        </message>
        <message>
            <source>Look again for cameras</source>
            <translation>Procurar câmeras de novo</translation>
        </message>
        <message>
            <source>Look again for microphones</source>
            <translation>Procurar microfones de novo</translation>
        </message>
        <message>
            <source>Look as the portrait does: the head turned alike, mouth and eyes as far open.</source>
            <translation>Fique como o retrato: a cabeça virada igual, boca e olhos abertos igual.</translation>
        </message>
        <message>
            <source>Look as you do at rest: mouth closed, eyes open; any direction will do.</source>
            <translation>Fique como em repouso: boca fechada, olhos abertos; qualquer direção serve.</translation>
        </message>
        <message>
            <source>Looking for cameras…</source>
            <translation>Procurando câmeras…</translation>
        </message>
        <message>
            <source>Looking for one…</source>
            <translation>Procurando uma…</translation>
        </message>
        <message>
            <source>MEASURING</source>
            <translation>MEDINDO</translation>
        </message>
        <message>
            <source>Make another token; the old one is of no use then</source>
            <translation>Criar outro token; o antigo deixa de valer</translation>
        </message>
        <message>
            <source>Masks</source>
            <translation>Máscaras</translation>
        </message>
        <message>
            <source>Measure</source>
            <translation>Medir</translation>
        </message>
        <message>
            <source>Measured: {words}.</source>
            <translation>Medido: {words}.</translation>
        </message>
        <message>
            <source>Microphone</source>
            <translation>Microfone</translation>
        </message>
        <message>
            <source>Microphone for calls, in step</source>
            <translation>Microfone para chamadas, no ritmo</translation>
        </message>
        <message>
            <source>Mirror the output</source>
            <translation>Espelhar a saída</translation>
        </message>
        <message>
            <source>Mirror the preview</source>
            <translation>Espelhar a prévia</translation>
        </message>
        <message>
            <source>Mirror what the call sees</source>
            <translation>Espelhar o que a chamada vê</translation>
        </message>
        <message>
            <source>Missing: {link}</source>
            <translation>Falta: {link}</translation>
        </message>
        <message>
            <source>Model</source>
            <translation>Modelo</translation>
        </message>
        <message>
            <source>Models (*.safetensors *.pth *.tar);;All files (*)</source>
            <translation>Modelos (*.safetensors *.pth *.tar);;Todos os arquivos (*)</translation>
        </message>
        <message>
            <source>Motion</source>
            <translation>Movimento</translation>
        </message>
        <message>
            <source>Motion files (*.safetensors);;All files (*)</source>
            <translation>Arquivos de movimento (*.safetensors);;Todos os arquivos (*)</translation>
        </message>
        <message>
            <source>Motion file…</source>
            <translation>Arquivo de movimento…</translation>
        </message>
        <message>
            <source>Mouth</source>
            <translation>Boca</translation>
        </message>
        <message>
            <source>Move the crop down (J)</source>
            <translation>Mover o corte para baixo (J)</translation>
        </message>
        <message>
            <source>Move the crop to the left (H)</source>
            <translation>Mover o corte para a esquerda (H)</translation>
        </message>
        <message>
            <source>Move the crop to the right (K)</source>
            <translation>Mover o corte para a direita (K)</translation>
        </message>
        <message>
            <source>Move the crop up (U)</source>
            <translation>Mover o corte para cima (U)</translation>
        </message>
        <message>
            <source>Moves gently</source>
            <translation>Move-se suavemente</translation>
        </message>
        <message>
            <source>NO CAMERA</source>
            <translation>SEM CÂMERA</translation>
        </message>
        <message>
            <source>NO FACE</source>
            <translation>SEM ROSTO</translation>
        </message>
        <message>
            <source>Name of the portrait</source>
            <translation>Nome do retrato</translation>
        </message>
        <message>
            <source>Name of these strengths:</source>
            <translation>Nome destas intensidades:</translation>
        </message>
        <message>
            <source>Nearness</source>
            <translation>Proximidade</translation>
        </message>
        <message>
            <source>Network camera</source>
            <translation>Câmera de rede</translation>
        </message>
        <message>
            <source>Network camera…</source>
            <translation>Câmera de rede…</translation>
        </message>
        <message>
            <source>New recordings have your voice, in step with the picture. Switched off, the microphone is closed.</source>
            <translation>As novas gravações têm a sua voz, no ritmo da imagem. Desligado, o microfone fica fechado.</translation>
        </message>
        <message>
            <source>New token</source>
            <translation>Novo token</translation>
        </message>
        <message>
            <source>Next portrait</source>
            <translation>Próximo retrato</translation>
        </message>
        <message>
            <source>Next step</source>
            <translation>Próximo passo</translation>
        </message>
        <message>
            <source>No camera</source>
            <translation>Sem câmera</translation>
        </message>
        <message>
            <source>No camera was found. Plug one in and refresh, or let a video file stand in for it.</source>
            <translation>Nenhuma câmera foi encontrada. Conecte uma e atualize, ou deixe um arquivo de vídeo no lugar dela.</translation>
        </message>
        <message>
            <source>No card: nobody tells what it learned from, or how good it is</source>
            <translation>Sem ficha: ninguém diz com o que ele aprendeu, nem quão bom é</translation>
        </message>
        <message>
            <source>No kernel module and no root, also with Secure Boot. Firefox, Chromium and OBS can list it.</source>
            <translation>Sem módulo do kernel e sem root, também com Secure Boot. Firefox, Chromium e OBS podem listá-la.</translation>
        </message>
        <message>
            <source>No picture goes out any more.</source>
            <translation>Nenhuma imagem sai mais.</translation>
        </message>
        <message>
            <source>Nod</source>
            <translation>Aceno</translation>
        </message>
        <message>
            <source>None: transparent</source>
            <translation>Nenhum: transparente</translation>
        </message>
        <message>
            <source>Not all of the list of portraits could be read: {said}. A portrait may have lost its name or its crop; {kept}.</source>
            <translation>Nem toda a lista de retratos pôde ser lida: {said}. Um retrato pode ter perdido o nome ou o corte; {kept}.</translation>
        </message>
        <message>
            <source>Not all presets could be used: {said}. All others are there; {kept}.</source>
            <translation>Nem todas as predefinições puderam ser usadas: {said}. Todas as outras estão lá; {kept}.</translation>
        </message>
        <message>
            <source>Not all settings could be used: {said}. All others are in force; {kept}.</source>
            <translation>Nem todas as configurações puderam ser usadas: {said}. Todas as outras valem; {kept}.</translation>
        </message>
        <message>
            <source>Not in space: {reason}.</source>
            <translation>Não no espaço: {reason}.</translation>
        </message>
        <message>
            <source>Not possible here while another window has the focus: {words}.</source>
            <translation>Não é possível aqui enquanto outra janela tem o foco: {words}.</translation>
        </message>
        <message>
            <source>Not yet: {missing}</source>
            <translation>Ainda não: {missing}</translation>
        </message>
        <message>
            <source>Nothing is heard: {trouble}.</source>
            <translation>Nada se ouve: {trouble}.</translation>
        </message>
        <message>
            <source>Nothing says under which licence it may be used.</source>
            <translation>Nada diz sob qual licença ele pode ser usado.</translation>
        </message>
        <message>
            <source>Nothing to improve.</source>
            <translation>Nada a melhorar.</translation>
        </message>
        <message>
            <source>Nudge</source>
            <translation>Deslocar</translation>
        </message>
        <message>
            <source>Nudge it down</source>
            <translation>Deslocar para baixo</translation>
        </message>
        <message>
            <source>Nudge it left</source>
            <translation>Deslocar para a esquerda</translation>
        </message>
        <message>
            <source>Nudge it right</source>
            <translation>Deslocar para a direita</translation>
        </message>
        <message>
            <source>Nudge the crop up</source>
            <translation>Deslocar o corte para cima</translation>
        </message>
        <message>
            <source>Occlusion</source>
            <translation>Oclusão</translation>
        </message>
        <message>
            <source>Of the picture that calls and recordings get, in pixels.</source>
            <translation>Da imagem que chamadas e gravações recebem, em pixels.</translation>
        </message>
        <message>
            <source>Of the window's texts. A change takes effect at the app's next start.</source>
            <translation>Dos textos da janela. Uma mudança vale a partir da próxima inicialização do aplicativo.</translation>
        </message>
        <message>
            <source>Offer call programs the microphone as late as the picture is, so that lips and voice agree. It is heard only while a program listens, and silent while you show the slate.</source>
            <translation>Oferece aos programas de chamada o microfone com o atraso da imagem, para que lábios e voz combinem. Só é ouvido enquanto um programa ouve, e fica mudo enquanto você mostra a tela de espera.</translation>
        </message>
        <message>
            <source>On: {device}. Choose it in your call program.</source>
            <translation>Ligada: {device}. Escolha-a no seu programa de chamada.</translation>
        </message>
        <message>
            <source>One colour</source>
            <translation>Uma cor</translation>
        </message>
        <message>
            <source>One moment: it is being read…</source>
            <translation>Um momento: está sendo lido…</translation>
        </message>
        <message>
            <source>Open</source>
            <translation>Abrir</translation>
        </message>
        <message>
            <source>Open OBS, press Start Virtual Camera once, allow the extension, press Stop, and restart this app</source>
            <translation>Abra o OBS, pressione uma vez “Iniciar câmera virtual”, permita a extensão, pare-a e reinicie este aplicativo</translation>
        </message>
        <message>
            <source>Open folder</source>
            <translation>Abrir pasta</translation>
        </message>
        <message>
            <source>Open what is written about this model</source>
            <translation>Abrir o que está escrito sobre este modelo</translation>
        </message>
        <message>
            <source>OpenCV does not load: {error}; on Debian or Ubuntu: apt-get install libgl1 libglib2.0-0 libxcb1</source>
            <translation>O OpenCV não carrega: {error}; no Debian ou Ubuntu: apt-get install libgl1 libglib2.0-0 libxcb1</translation>
        </message>
        <message>
            <source>OpenVINO alone knows it, and backend {backend} was chosen; use backend auto, or bf16 or fp32</source>
            <translation>só o OpenVINO sabe isso, e o motor {backend} foi escolhido; use o motor auto, ou bf16 ou fp32</translation>
        </message>
        <message>
            <source>OpenVINO computes on CPUs and Intel GPUs only, and {device} was chosen</source>
            <translation>o OpenVINO calcula só em processadores e GPUs Intel, e {device} foi escolhido</translation>
        </message>
        <message>
            <source>OpenVINO finds no Intel GPU: there is none, or its driver for computing (OpenCL) is missing</source>
            <translation>o OpenVINO não encontra GPU Intel: não há nenhuma, ou falta o driver de cálculo dela (OpenCL)</translation>
        </message>
        <message>
            <source>OpenVINO knows no GPU on macOS (device mps is Apple's)</source>
            <translation>o OpenVINO não conhece GPU no macOS (o dispositivo mps é o da Apple)</translation>
        </message>
        <message>
            <source>OpenVINO was measured on x86-64 CPUs only, and this is {machine}</source>
            <translation>o OpenVINO foi medido só em processadores x86-64, e este é {machine}</translation>
        </message>
        <message>
            <source>Opening…</source>
            <translation>Abrindo…</translation>
        </message>
        <message>
            <source>Other programs</source>
            <translation>Outros programas</translation>
        </message>
        <message>
            <source>Output and computer</source>
            <translation>Saída e computador</translation>
        </message>
        <message>
            <source>Output preview</source>
            <translation>Prévia da saída</translation>
        </message>
        <message>
            <source>Output rate</source>
            <translation>Taxa da saída</translation>
        </message>
        <message>
            <source>Output size</source>
            <translation>Tamanho da saída</translation>
        </message>
        <message>
            <source>Overlay</source>
            <translation>Sobreposição</translation>
        </message>
        <message>
            <source>PREVIEW</source>
            <translation>PRÉVIA</translation>
        </message>
        <message>
            <source>Panic key</source>
            <translation>Tecla de emergência</translation>
        </message>
        <message>
            <source>Parts of expression</source>
            <translation>Partes da expressão</translation>
        </message>
        <message>
            <source>Parts of motion</source>
            <translation>Partes do movimento</translation>
        </message>
        <message>
            <source>Paste a picture</source>
            <translation>Colar uma imagem</translation>
        </message>
        <message>
            <source>Pause the preview</source>
            <translation>Pausar a prévia</translation>
        </message>
        <message>
            <source>Pick one on the left, or add a picture of yours</source>
            <translation>Escolha um à esquerda, ou adicione uma imagem sua</translation>
        </message>
        <message>
            <source>Picture</source>
            <translation>Imagem</translation>
        </message>
        <message>
            <source>Pictures ({endings});;All files (*)</source>
            <translation>Imagens ({endings});;Todos os arquivos (*)</translation>
        </message>
        <message>
            <source>PipeWire camera {detail}: got a picture of {shape}, expected {expected}</source>
            <translation>câmera PipeWire {detail}: a imagem é {shape}, esperava-se {expected}</translation>
        </message>
        <message>
            <source>PipeWire did not answer within {seconds:g} s</source>
            <translation>o PipeWire não respondeu em {seconds:g} s</translation>
        </message>
        <message>
            <source>PipeWire did not answer within {seconds} s</source>
            <translation>o PipeWire não respondeu em {seconds} s</translation>
        </message>
        <message>
            <source>PipeWire does not run: {error}</source>
            <translation>o PipeWire não está em execução: {error}</translation>
        </message>
        <message>
            <source>PipeWire has ended</source>
            <translation>o PipeWire terminou</translation>
        </message>
        <message>
            <source>PipeWire has failed: {said}</source>
            <translation>o PipeWire falhou: {said}</translation>
        </message>
        <message>
            <source>PipeWire has refused the camera: {error}</source>
            <translation>o PipeWire recusou a câmera: {error}</translation>
        </message>
        <message>
            <source>PipeWire has refused the microphone: {error}</source>
            <translation>o PipeWire recusou o microfone: {error}</translation>
        </message>
        <message>
            <source>PipeWire has refused to hear the microphone: {error}</source>
            <translation>o PipeWire recusou ouvir o microfone: {error}</translation>
        </message>
        <message>
            <source>PipeWire is installed, but does not run: nothing listens at {socket}.</source>
            <translation>O PipeWire está instalado, mas não em execução: nada escuta em {socket}.</translation>
        </message>
        <message>
            <source>PipeWire is not installed.</source>
            <translation>O PipeWire não está instalado.</translation>
        </message>
        <message>
            <source>PipeWire makes no node (error {number})</source>
            <translation>o PipeWire não cria um nó (erro {number})</translation>
        </message>
        <message>
            <source>PipeWire runs, but cannot be used: {error}.</source>
            <translation>O PipeWire está em execução, mas não pode ser usado: {error}.</translation>
        </message>
        <message>
            <source>PipeWire runs, but you may not use it ({socket}).</source>
            <translation>O PipeWire está em execução, mas você não pode usá-lo ({socket}).</translation>
        </message>
        <message>
            <source>PipeWire {version} runs, but without a session manager: no program would reach the camera.</source>
            <translation>O PipeWire {version} está em execução, mas sem gerenciador de sessão: nenhum programa alcançaria a câmera.</translation>
        </message>
        <message>
            <source>PipeWire {version} with {manager} can have the camera {name}, without a kernel module.</source>
            <translation>O PipeWire {version} com {manager} pode oferecer a câmera {name}, sem módulo do kernel.</translation>
        </message>
        <message>
            <source>PipeWire's daemon cannot be reached; start it: systemctl --user start pipewire</source>
            <translation>o serviço do PipeWire não pode ser alcançado; inicie-o: systemctl --user start pipewire</translation>
        </message>
        <message>
            <source>PipeWire's library cannot be loaded ({error}); install PipeWire</source>
            <translation>a biblioteca do PipeWire não pode ser carregada ({error}); instale o PipeWire</translation>
        </message>
        <message>
            <source>PipeWire's library cannot be used: its settings or plug-ins are missing; install PipeWire</source>
            <translation>a biblioteca do PipeWire não pode ser usada: faltam as configurações ou os plug-ins dela; instale o PipeWire</translation>
        </message>
        <message>
            <source>PipeWire's library cannot be used: its thread does not start</source>
            <translation>a biblioteca do PipeWire não pode ser usada: a thread dela não inicia</translation>
        </message>
        <message>
            <source>PipeWire's library is too old: it lacks {name}; update PipeWire</source>
            <translation>a biblioteca do PipeWire é antiga demais: falta-lhe {name}; atualize o PipeWire</translation>
        </message>
        <message>
            <source>Play motion that was recorded before, in a loop, instead of a camera</source>
            <translation>Reproduzir, em repetição, um movimento gravado antes, no lugar de uma câmera</translation>
        </message>
        <message>
            <source>Port</source>
            <translation>Porta</translation>
        </message>
        <message>
            <source>Port of control from outside</source>
            <translation>Porta do controle externo</translation>
        </message>
        <message>
            <source>Portrait</source>
            <translation>Retrato</translation>
        </message>
        <message>
            <source>Portrait over your picture: fainter</source>
            <translation>Retrato sobre a sua imagem: mais fraco</translation>
        </message>
        <message>
            <source>Portrait over your picture: stronger</source>
            <translation>Retrato sobre a sua imagem: mais forte</translation>
        </message>
        <message>
            <source>Portrait size</source>
            <translation>Tamanho do retrato</translation>
        </message>
        <message>
            <source>Portraits</source>
            <translation>Retratos</translation>
        </message>
        <message>
            <source>Pose</source>
            <translation>Pose</translation>
        </message>
        <message>
            <source>Preset</source>
            <translation>Predefinição</translation>
        </message>
        <message>
            <source>Previous portrait</source>
            <translation>Retrato anterior</translation>
        </message>
        <message>
            <source>Processor</source>
            <translation>Processador</translation>
        </message>
        <message>
            <source>Programs that show the token can control this window on port {port}.</source>
            <translation>Programas que mostram o token podem controlar esta janela na porta {port}.</translation>
        </message>
        <message>
            <source>Put recordings and snapshots elsewhere</source>
            <translation>Guardar gravações e capturas em outro lugar</translation>
        </message>
        <message>
            <source>Put the crop back where the face is</source>
            <translation>Devolver o corte para onde o rosto está</translation>
        </message>
        <message>
            <source>Put the first steps away; they come back under Window</source>
            <translation>Guardar os primeiros passos; eles voltam em “Janela”</translation>
        </message>
        <message>
            <source>Put the portrait back in the middle, in its usual size (a double click on the preview)</source>
            <translation>Pôr o retrato de volta no meio, no tamanho usual (clique duplo na prévia)</translation>
        </message>
        <message>
            <source>Put this message away</source>
            <translation>Tirar esta mensagem</translation>
        </message>
        <message>
            <source>Qt's part for sound cannot be loaded ({error}); {remedy}</source>
            <translation>A parte do Qt para o som não pode ser carregada ({error}); {remedy}</translation>
        </message>
        <message>
            <source>Quit</source>
            <translation>Sair</translation>
        </message>
        <message>
            <source>Rate</source>
            <translation>Taxa</translation>
        </message>
        <message>
            <source>Read its card</source>
            <translation>Ler a ficha</translation>
        </message>
        <message>
            <source>Recheck</source>
            <translation>Verificar de novo</translation>
        </message>
        <message>
            <source>Record</source>
            <translation>Gravar</translation>
        </message>
        <message>
            <source>Record my microphone</source>
            <translation>Gravar o meu microfone</translation>
        </message>
        <message>
            <source>Record my motion</source>
            <translation>Gravar o meu movimento</translation>
        </message>
        <message>
            <source>Record the output (V)</source>
            <translation>Gravar a saída (V)</translation>
        </message>
        <message>
            <source>Record your motion, without pictures, to play it on any portrait later</source>
            <translation>Grava o seu movimento, sem imagens, para reproduzi-lo depois em qualquer retrato</translation>
        </message>
        <message>
            <source>Record, or capture the window with your call program</source>
            <translation>Grave, ou compartilhe a janela com o seu programa de chamada</translation>
        </message>
        <message>
            <source>Recordings</source>
            <translation>Gravações</translation>
        </message>
        <message>
            <source>Recordings (WebM) and snapshots are transparent; the call sees this colour:</source>
            <translation>Gravações (WebM) e capturas são transparentes; a chamada vê esta cor:</translation>
        </message>
        <message>
            <source>Recordings and snapshots say, in a signed and standard way (C2PA), that AI generated them, and with which model; nothing of you. Others can read it, and can remove it.</source>
            <translation>Gravações e capturas dizem, de forma assinada e padronizada (C2PA), que uma IA as gerou e com qual modelo; nada de você. Outros podem ler isso, e podem removê-lo.</translation>
        </message>
        <message>
            <source>Refresh</source>
            <translation>Atualizar</translation>
        </message>
        <message>
            <source>Refresh cameras</source>
            <translation>Atualizar câmeras</translation>
        </message>
        <message>
            <source>Refresh microphones</source>
            <translation>Atualizar microfones</translation>
        </message>
        <message>
            <source>Remember the calibration</source>
            <translation>Lembrar a calibração</translation>
        </message>
        <message>
            <source>Remove</source>
            <translation>Remover</translation>
        </message>
        <message>
            <source>Remove it</source>
            <translation>Remover</translation>
        </message>
        <message>
            <source>Rename</source>
            <translation>Renomear</translation>
        </message>
        <message>
            <source>Rename a portrait of yours</source>
            <translation>Renomear um retrato seu</translation>
        </message>
        <message>
            <source>Rename a preset</source>
            <translation>Renomear uma predefinição</translation>
        </message>
        <message>
            <source>Rename…</source>
            <translation>Renomear…</translation>
        </message>
        <message>
            <source>Reset the place</source>
            <translation>Redefinir o lugar</translation>
        </message>
        <message>
            <source>Rests still</source>
            <translation>Repousa parado</translation>
        </message>
        <message>
            <source>SLATE</source>
            <translation>ESPERA</translation>
        </message>
        <message>
            <source>STANDBY</source>
            <translation>DE PRONTIDÃO</translation>
        </message>
        <message>
            <source>STARTING</source>
            <translation>INICIANDO</translation>
        </message>
        <message>
            <source>Save</source>
            <translation>Salvar</translation>
        </message>
        <message>
            <source>Save a picture of the output</source>
            <translation>Salvar uma imagem da saída</translation>
        </message>
        <message>
            <source>Save a picture of the output (P)</source>
            <translation>Salvar uma imagem da saída (P)</translation>
        </message>
        <message>
            <source>Save a preset</source>
            <translation>Salvar uma predefinição</translation>
        </message>
        <message>
            <source>Save as…</source>
            <translation>Salvar como…</translation>
        </message>
        <message>
            <source>Saved: {path}</source>
            <translation>Salvo: {path}</translation>
        </message>
        <message>
            <source>Says in the picture that it is synthetic. Please leave it on when others watch.</source>
            <translation>Diz na imagem que ela é sintética. Por favor, deixe-o ligado quando outros assistirem.</translation>
        </message>
        <message>
            <source>Scene</source>
            <translation>Cena</translation>
        </message>
        <message>
            <source>Score of the portrait</source>
            <translation>Nota do retrato</translation>
        </message>
        <message>
            <source>Score {score} of 100</source>
            <translation>Nota {score} de 100</translation>
        </message>
        <message>
            <source>Score {score} of 100: {remarks}</source>
            <translation>Nota {score} de 100: {remarks}</translation>
        </message>
        <message>
            <source>Secure Boot is on: if modprobe says that the key was rejected, enrol the key that signs the module, restart, and confirm it in the blue menu</source>
            <translation>O Secure Boot está ligado: se o modprobe disser que a chave foi rejeitada, registre a chave que assina o módulo, reinicie e confirme-a no menu azul</translation>
        </message>
        <message>
            <source>See and adjust the crop</source>
            <translation>Ver e ajustar o corte</translation>
        </message>
        <message>
            <source>See which program it is, and close it</source>
            <translation>Veja qual programa é, e feche-o</translation>
        </message>
        <message>
            <source>Settings &gt; Privacy &amp; security &gt; Camera</source>
            <translation>Configurações &gt; Privacidade e segurança &gt; Câmera</translation>
        </message>
        <message>
            <source>Sharpness</source>
            <translation>Nitidez</translation>
        </message>
        <message>
            <source>Shift</source>
            <translation>Deslocamento</translation>
        </message>
        <message>
            <source>Shoulders, hair and the room are seen as far as the photo shows them, not the portrait's square alone.</source>
            <translation>Ombros, cabelo e o ambiente aparecem até onde a foto os mostra, e não apenas o quadrado do retrato.</translation>
        </message>
        <message>
            <source>Show below what is measured (I).</source>
            <translation>Mostra abaixo o que é medido (I).</translation>
        </message>
        <message>
            <source>Show me the output as in a mirror (R), but for the badge; the call sees it unchanged.</source>
            <translation>Mostra-me a saída como num espelho (R), exceto o selo; a chamada a vê sem mudança.</translation>
        </message>
        <message>
            <source>Show my camera picture</source>
            <translation>Mostrar a imagem da minha câmera</translation>
        </message>
        <message>
            <source>Show no face at once (0; from a dialog Ctrl+0)</source>
            <translation>Não mostrar nenhum rosto imediatamente (0; de uma caixa de diálogo Ctrl+0)</translation>
        </message>
        <message>
            <source>Show or hide my camera picture</source>
            <translation>Mostrar ou ocultar a imagem da minha câmera</translation>
        </message>
        <message>
            <source>Show the avatar in the preview again (G)</source>
            <translation>Mostrar o avatar de novo na prévia (G)</translation>
        </message>
        <message>
            <source>Show the avatar to the call (G)</source>
            <translation>Mostrar o avatar à chamada (G)</translation>
        </message>
        <message>
            <source>Show the checklist of the first launch.</source>
            <translation>Mostra a lista da primeira inicialização.</translation>
        </message>
        <message>
            <source>Show the controls here</source>
            <translation>Mostrar os controles aqui</translation>
        </message>
        <message>
            <source>Show the folder of recordings and snapshots</source>
            <translation>Mostrar a pasta das gravações e capturas</translation>
        </message>
        <message>
            <source>Show the next step</source>
            <translation>Mostrar o próximo passo</translation>
        </message>
        <message>
            <source>Show the portraits here</source>
            <translation>Mostrar os retratos aqui</translation>
        </message>
        <message>
            <source>Show the slate without a picture again</source>
            <translation>Mostrar de novo a tela de espera sem imagem</translation>
        </message>
        <message>
            <source>Show the whole photo</source>
            <translation>Mostrar a foto inteira</translation>
        </message>
        <message>
            <source>Show what the network does with your motion (N).</source>
            <translation>Mostra o que a rede faz com o seu movimento (N).</translation>
        </message>
        <message>
            <source>Show window</source>
            <translation>Mostrar janela</translation>
        </message>
        <message>
            <source>Shows the portrait's own pores and hairs, which the network leaves out, as far as its picture has the pixels. It takes some milliseconds per picture: switch it off if the avatar stutters.</source>
            <translation>Mostra os poros e os cabelos do próprio retrato, que a rede deixa de fora, até onde a imagem dele tem pixels. Custa alguns milissegundos por imagem: desligue se o avatar engasgar.</translation>
        </message>
        <message>
            <source>Shows the slate from every window: press the key that you want, such as Ctrl+Alt+0.</source>
            <translation>Mostra a tela de espera de qualquer janela: pressione a tecla que quiser, como Ctrl+Alt+0.</translation>
        </message>
        <message>
            <source>Sideways</source>
            <translation>Para os lados</translation>
        </message>
        <message>
            <source>Silent while you show the slate.</source>
            <translation>Mudo enquanto você mostra a tela de espera.</translation>
        </message>
        <message>
            <source>Size</source>
            <translation>Tamanho</translation>
        </message>
        <message>
            <source>Slate</source>
            <translation>Espera</translation>
        </message>
        <message>
            <source>Slate at once: the call sees no face</source>
            <translation>Tela de espera imediata: a chamada não vê nenhum rosto</translation>
        </message>
        <message>
            <source>Slate key</source>
            <translation>Tecla de espera</translation>
        </message>
        <message>
            <source>Slate says</source>
            <translation>Texto</translation>
        </message>
        <message>
            <source>Slate's picture…</source>
            <translation>Imagem de espera…</translation>
        </message>
        <message>
            <source>Smoothing</source>
            <translation>Suavização</translation>
        </message>
        <message>
            <source>Snapshot</source>
            <translation>Captura</translation>
        </message>
        <message>
            <source>Something unexpected went wrong ({key}): {error}.</source>
            <translation>Algo inesperado deu errado ({key}): {error}.</translation>
        </message>
        <message>
            <source>Something unexpected went wrong in the window: {kind}: {error}. The log tells more.</source>
            <translation>Algo inesperado deu errado na janela: {kind}: {error}. O registro diz mais.</translation>
        </message>
        <message>
            <source>Sound</source>
            <translation>Som</translation>
        </message>
        <message>
            <source>Speak as you will in the recording: the bar should reach the middle, and not turn red.</source>
            <translation>Fale como vai falar na gravação: a barra deve chegar ao meio, e não ficar vermelha.</translation>
        </message>
        <message>
            <source>Speed here: not measured yet</source>
            <translation>Velocidade aqui: ainda não medida</translation>
        </message>
        <message>
            <source>Speed here: {frame_ms:.3g} ms per frame, measured</source>
            <translation>Velocidade aqui: {frame_ms:.3g} ms por quadro, medida</translation>
        </message>
        <message>
            <source>Square to animate</source>
            <translation>Quadrado a animar</translation>
        </message>
        <message>
            <source>Standard</source>
            <translation>Padrão</translation>
        </message>
        <message>
            <source>Start PipeWire again</source>
            <translation>Reinicie o PipeWire</translation>
        </message>
        <message>
            <source>Start again</source>
            <translation>Reiniciar</translation>
        </message>
        <message>
            <source>Start as usual</source>
            <translation>Iniciar como de costume</translation>
        </message>
        <message>
            <source>Start it, now and at every login</source>
            <translation>Inicie-o, agora e a cada entrada na sessão</translation>
        </message>
        <message>
            <source>Start or stop the recording</source>
            <translation>Iniciar ou parar a gravação</translation>
        </message>
        <message>
            <source>Start safely</source>
            <translation>Iniciar com segurança</translation>
        </message>
        <message>
            <source>Start the app as the user who is logged in, and not with sudo</source>
            <translation>Inicie o aplicativo como o usuário que está na sessão, e não com sudo</translation>
        </message>
        <message>
            <source>Statistics</source>
            <translation>Estatísticas</translation>
        </message>
        <message>
            <source>Status</source>
            <translation>Status</translation>
        </message>
        <message>
            <source>Step {number}, {title}: {state}. {text}</source>
            <translation>Passo {number}, {title}: {state}. {text}</translation>
        </message>
        <message>
            <source>Step {step} of {steps}</source>
            <translation>Passo {step} de {steps}</translation>
        </message>
        <message>
            <source>Still learning: step unknown</source>
            <translation>Ainda aprende: passo desconhecido</translation>
        </message>
        <message>
            <source>Still learning: step {step}</source>
            <translation>Ainda aprende: passo {step}</translation>
        </message>
        <message>
            <source>Still learning: step {step} of {of}</source>
            <translation>Ainda aprende: passo {step} de {of}</translation>
        </message>
        <message>
            <source>Stop</source>
            <translation>Parar</translation>
        </message>
        <message>
            <source>Stop everything and quit</source>
            <translation>Parar tudo e sair</translation>
        </message>
        <message>
            <source>Stop painting it, as saves power; the call and recordings go on.</source>
            <translation>Deixa de desenhá-la, o que poupa energia; a chamada e as gravações continuam.</translation>
        </message>
        <message>
            <source>Stop recording</source>
            <translation>Parar a gravação</translation>
        </message>
        <message>
            <source>Stop recording my motion</source>
            <translation>Parar de gravar o meu movimento</translation>
        </message>
        <message>
            <source>Stop the virtual camera in OBS</source>
            <translation>Pare a câmera virtual no OBS</translation>
        </message>
        <message>
            <source>Straighten</source>
            <translation>Endireitar</translation>
        </message>
        <message>
            <source>Strengths of motion and expression, with all their parts, by name. Each portrait remembers its own.</source>
            <translation>Intensidades de movimento e expressão, com todas as partes, com um nome. Cada retrato lembra as dele.</translation>
        </message>
        <message>
            <source>Switch on</source>
            <translation>Ligar</translation>
        </message>
        <message>
            <source>Switch the virtual camera off first: a call keeps what it began with.</source>
            <translation>Desligue primeiro a câmera virtual: uma chamada mantém aquilo com que começou.</translation>
        </message>
        <message>
            <source>Switch the virtual camera off first: no model runs.</source>
            <translation>Desligue primeiro a câmera virtual: nenhum modelo está em execução.</translation>
        </message>
        <message>
            <source>System</source>
            <translation>Sistema</translation>
        </message>
        <message>
            <source>System Settings &gt; Privacy &amp; Security &gt; Camera</source>
            <translation>Ajustes do Sistema &gt; Privacidade e Segurança &gt; Câmera</translation>
        </message>
        <message>
            <source>Take this picture of yours out of the gallery (Delete)</source>
            <translation>Tirar da galeria esta imagem sua (Delete)</translation>
        </message>
        <message>
            <source>Text of the slate</source>
            <translation>Texto da tela de espera</translation>
        </message>
        <message>
            <source>The address that the camera's app shows, such as http://192.168.1.20:8080/video or rtsp://192.168.1.20/live.
If it wants a password: http://USER:PASSWORD@192.168.1.20:8080/video</source>
            <translation>O endereço que o aplicativo da câmera mostra, como http://192.168.1.20:8080/video ou rtsp://192.168.1.20/live.
Se ele pedir uma senha: http://USER:PASSWORD@192.168.1.20:8080/video</translation>
        </message>
        <message>
            <source>The app did not end in order last time: it crashed or was killed.</source>
            <translation>O aplicativo não terminou em ordem da última vez: ele travou ou foi encerrado à força.</translation>
        </message>
        <message>
            <source>The avatar keeps its own face and looks where you look, however you were turned at the calibration.</source>
            <translation>O avatar mantém o próprio rosto e olha para onde você olha, não importa como você estava virado na calibração.</translation>
        </message>
        <message>
            <source>The avatar moves as you move in the picture since the calibration: the paper's way.</source>
            <translation>O avatar se move como você se move na imagem desde a calibração: à maneira do artigo.</translation>
        </message>
        <message>
            <source>The avatar takes your very pose and face: for a portrait of yourself.</source>
            <translation>O avatar assume exatamente a sua pose e o seu rosto: para um retrato seu.</translation>
        </message>
        <message>
            <source>The background stays still behind the person, instead of moving along with the head.</source>
            <translation>O fundo fica parado atrás da pessoa, em vez de se mover com a cabeça.</translation>
        </message>
        <message>
            <source>The brows raised and knit.</source>
            <translation>As sobrancelhas erguidas e franzidas.</translation>
        </message>
        <message>
            <source>The camera that sees you. Only the avatar leaves this app, never its picture.</source>
            <translation>A câmera que vê você. Só o avatar sai deste aplicativo, nunca a imagem dela.</translation>
        </message>
        <message>
            <source>The camera {name} is away ({error}). It comes back by itself.</source>
            <translation>A câmera {name} se foi ({error}). Ela volta sozinha.</translation>
        </message>
        <message>
            <source>The card beside {name} is of other weights: do not trust what it says.</source>
            <translation>A ficha ao lado de {name} é de outros pesos: não confie no que ela diz.</translation>
        </message>
        <message>
            <source>The first nine portraits</source>
            <translation>Os nove primeiros retratos</translation>
        </message>
        <message>
            <source>The folder {folder} does not answer: what goes there waits for it. Choose another folder under “Output and computer” if it stays so.</source>
            <translation>A pasta {folder} não responde: o que vai para lá espera por ela. Escolha outra pasta em “Saída e computador” se continuar assim.</translation>
        </message>
        <message>
            <source>The head leant towards a shoulder.</source>
            <translation>A cabeça inclinada para um ombro.</translation>
        </message>
        <message>
            <source>The head moved in the picture.</source>
            <translation>A cabeça deslocada na imagem.</translation>
        </message>
        <message>
            <source>The head moved towards the camera and away from it.</source>
            <translation>A cabeça aproximada e afastada da câmera.</translation>
        </message>
        <message>
            <source>The head raised and lowered.</source>
            <translation>A cabeça erguida e abaixada.</translation>
        </message>
        <message>
            <source>The head turned to the sides.</source>
            <translation>A cabeça virada para os lados.</translation>
        </message>
        <message>
            <source>The key is not heard: {why}.</source>
            <translation>A tecla não é ouvida: {why}.</translation>
        </message>
        <message>
            <source>The language changes at the next start of the app.</source>
            <translation>O idioma muda na próxima inicialização do aplicativo.</translation>
        </message>
        <message>
            <source>The microphone for calls is being made…</source>
            <translation>O microfone para chamadas está sendo criado…</translation>
        </message>
        <message>
            <source>The microphone is being opened…</source>
            <translation>O microfone está sendo aberto…</translation>
        </message>
        <message>
            <source>The model has given no picture for a while, so the output shows the slate. It goes on by itself once there is one; if it stays so, start again.</source>
            <translation>O modelo não deu nenhuma imagem por um tempo, então a saída mostra a tela de espera. Ela continua sozinha assim que houver uma; se continuar assim, reinicie.</translation>
        </message>
        <message>
            <source>The model's card</source>
            <translation>A ficha do modelo</translation>
        </message>
        <message>
            <source>The network that animates the portrait: the bundled one, or a file or folder of yours.</source>
            <translation>A rede que anima o retrato: a incluída, ou um arquivo ou uma pasta sua.</translation>
        </message>
        <message>
            <source>The one chosen before</source>
            <translation>O escolhido antes</translation>
        </message>
        <message>
            <source>The output shows the slate.</source>
            <translation>A saída mostra a tela de espera.</translation>
        </message>
        <message>
            <source>The picture is that late. Set this delay for your microphone (OBS: Advanced audio properties, sync offset) and lips and sound agree.</source>
            <translation>A imagem chega com esse atraso. Defina esse atraso para o seu microfone (OBS: propriedades de áudio avançadas, compensação de sincronia) e os lábios combinam com o som.</translation>
        </message>
        <message>
            <source>The portrait over your picture (Z and C); for motion in the plane, to line up the pose.</source>
            <translation>O retrato sobre a sua imagem (Z e C); para o movimento no plano, para alinhar a pose.</translation>
        </message>
        <message>
            <source>The portrait {first} is not in the gallery any more; {name} is used.</source>
            <translation>O retrato {first} não está mais na galeria; {name} é usado.</translation>
        </message>
        <message>
            <source>The portrait's own, blurred</source>
            <translation>O do próprio retrato, desfocado</translation>
        </message>
        <message>
            <source>The portrait's own, still</source>
            <translation>O do próprio retrato, parado</translation>
        </message>
        <message>
            <source>The portrait, moved and nothing else</source>
            <translation>O retrato, movido e nada mais</translation>
        </message>
        <message>
            <source>The preset {name} has these strengths now.</source>
            <translation>A predefinição {name} tem agora estas intensidades.</translation>
        </message>
        <message>
            <source>The preset {name} was deleted.</source>
            <translation>A predefinição {name} foi excluída.</translation>
        </message>
        <message>
            <source>The presets could not be read ({error}). There are none for now; {kept}.</source>
            <translation>As predefinições não puderam ser lidas ({error}). Por ora não há nenhuma; {kept}.</translation>
        </message>
        <message>
            <source>The preview is paused; the output goes on.</source>
            <translation>A prévia está em pausa; a saída continua.</translation>
        </message>
        <message>
            <source>The recording goes on without sound, which failed ({error}). For sound, begin another one.</source>
            <translation>A gravação continua sem som, que falhou ({error}). Para ter som, comece outra.</translation>
        </message>
        <message>
            <source>The recording had not begun: there is no file.</source>
            <translation>A gravação não tinha começado: não há arquivo.</translation>
        </message>
        <message>
            <source>The recording has no sound, since its encoder cannot be opened ({error}). Install the app again.</source>
            <translation>A gravação não tem som, pois o codificador dele não pode ser aberto ({error}). Instale o aplicativo de novo.</translation>
        </message>
        <message>
            <source>The recording of your motion ended: {why}.</source>
            <translation>A gravação do seu movimento terminou: {why}.</translation>
        </message>
        <message>
            <source>The same, from a dialog for files or colours too</source>
            <translation>O mesmo, também de uma caixa de diálogo de arquivos ou cores</translation>
        </message>
        <message>
            <source>The settings could not be read ({error}). Defaults are in use; {kept}.</source>
            <translation>As configurações não puderam ser lidas ({error}). Valem as padrão; {kept}.</translation>
        </message>
        <message>
            <source>The slate cannot show {characters}. Leave that out, or choose a picture that shows it for the slate.</source>
            <translation>A tela de espera não consegue mostrar {characters}. Retire isso ou escolha uma imagem de espera que o mostre.</translation>
        </message>
        <message>
            <source>The slate key is not heard: {why}.</source>
            <translation>A tecla de espera não é ouvida: {why}.</translation>
        </message>
        <message>
            <source>The system does not let this app use the camera. Allow it in System Settings, Privacy.</source>
            <translation>O sistema não deixa este aplicativo usar a câmera. Permita-o em Ajustes do Sistema, Privacidade.</translation>
        </message>
        <message>
            <source>The system is asked for the key…</source>
            <translation>A tecla está sendo pedida ao sistema…</translation>
        </message>
        <message>
            <source>The system's usual one</source>
            <translation>O padrão do sistema</translation>
        </message>
        <message>
            <source>The virtual camera {called} does not answer ({cause}).</source>
            <translation>A câmera virtual {called} não responde ({cause}).</translation>
        </message>
        <message>
            <source>The virtual camera {called} is in use by another program.</source>
            <translation>A câmera virtual {called} está em uso por outro programa.</translation>
        </message>
        <message>
            <source>The virtual camera {called} is in use by {by}.</source>
            <translation>A câmera virtual {called} está em uso por {by}.</translation>
        </message>
        <message>
            <source>The virtual camera {called} is ready, but Chrome and Teams will not list it (exclusive_caps=0).</source>
            <translation>A câmera virtual {called} está pronta, mas o Chrome e o Teams não vão listá-la (exclusive_caps=0).</translation>
        </message>
        <message>
            <source>The virtual camera {called} is ready.</source>
            <translation>A câmera virtual {called} está pronta.</translation>
        </message>
        <message>
            <source>The virtual camera {called} is there, but you may not use it.</source>
            <translation>A câmera virtual {called} está lá, mas você não pode usá-la.</translation>
        </message>
        <message>
            <source>The virtual camera {called} takes our pictures.</source>
            <translation>A câmera virtual {called} recebe as nossas imagens.</translation>
        </message>
        <message>
            <source>The virtual camera {name} is ready.</source>
            <translation>A câmera virtual {name} está pronta.</translation>
        </message>
        <message>
            <source>The {camera} is in use: OBS itself or another program writes to it.</source>
            <translation>{camera} está em uso: o próprio OBS ou outro programa escreve nela.</translation>
        </message>
        <message>
            <source>The {camera} is installed, but you have not approved it yet.</source>
            <translation>{camera} está instalada, mas você ainda não a aprovou.</translation>
        </message>
        <message>
            <source>The {camera} is ready.</source>
            <translation>{camera} está pronta.</translation>
        </message>
        <message>
            <source>Theme</source>
            <translation>Tema</translation>
        </message>
        <message>
            <source>There is no face in this square of {name}: move the square over a face that looks towards the camera, or choose the automatic crop.</source>
            <translation>Não há rosto neste quadrado de {name}: mova-o sobre um rosto que olhe para a câmera, ou escolha o corte automático.</translation>
        </message>
        <message>
            <source>There is no folder {folder} to open yet: it is made with the first recording or snapshot.</source>
            <translation>A pasta {folder} ainda não existe: ela é criada com a primeira gravação ou captura.</translation>
        </message>
        <message>
            <source>There is no picture in the clipboard: copy one first.</source>
            <translation>Não há imagem na área de transferência: copie uma primeiro.</translation>
        </message>
        <message>
            <source>There is no picture in the folder {folder}: choose one that has some.</source>
            <translation>Não há nenhuma imagem na pasta {folder}: escolha uma que tenha.</translation>
        </message>
        <message>
            <source>There is no picture yet to save.</source>
            <translation>Ainda não há imagem para salvar.</translation>
        </message>
        <message>
            <source>There is no virtual camera at {device}: got {what}, expected a device of v4l2loopback.</source>
            <translation>Não há câmera virtual em {device}: há {what}, esperava-se um dispositivo v4l2loopback.</translation>
        </message>
        <message>
            <source>There is no virtual camera for {system}: expected Linux, Windows or macOS.</source>
            <translation>Não há câmera virtual para {system}: esperava-se Linux, Windows ou macOS.</translation>
        </message>
        <message>
            <source>There is no virtual camera in a safe start: start the app again.</source>
            <translation>Não há câmera virtual em uma inicialização segura: inicie o aplicativo de novo.</translation>
        </message>
        <message>
            <source>There is no virtual camera {device}: expected {camera} or UnityCapture's.</source>
            <translation>Não há câmera virtual {device}: esperava-se {camera} ou a do UnityCapture.</translation>
        </message>
        <message>
            <source>There is no virtual camera {device}: expected {camera}.</source>
            <translation>Não há câmera virtual {device}: esperava-se {camera}.</translation>
        </message>
        <message>
            <source>There is no virtual camera: OBS Studio brings one.</source>
            <translation>Não há câmera virtual: o OBS Studio traz uma.</translation>
        </message>
        <message>
            <source>There is no virtual camera: OBS is installed, its camera not yet ({camera}).</source>
            <translation>Não há câmera virtual: o OBS está instalado, a câmera dele ainda não ({camera}).</translation>
        </message>
        <message>
            <source>There is no virtual camera: got macOS {release}, expected 13 or newer.</source>
            <translation>Não há câmera virtual: este é o macOS {release}, esperava-se o 13 ou mais novo.</translation>
        </message>
        <message>
            <source>There is no virtual camera: v4l2loopback is installed, but not loaded.</source>
            <translation>Não há câmera virtual: o v4l2loopback está instalado, mas não carregado.</translation>
        </message>
        <message>
            <source>There is no virtual camera: v4l2loopback is not installed for the kernel {kernel}.</source>
            <translation>Não há câmera virtual: o v4l2loopback não está instalado para o kernel {kernel}.</translation>
        </message>
        <message>
            <source>There is nothing to record at the moment: wait until the preview goes on.</source>
            <translation>Não há nada para gravar no momento: espere até a prévia continuar.</translation>
        </message>
        <message>
            <source>This is a safe start: the processor computes, there is no virtual camera, and all settings are the defaults. Nothing of them is kept; your own are back with the next start.</source>
            <translation>Esta é uma inicialização segura: o processador calcula, não há câmera virtual e todas as configurações são as padrão. Nada disso é guardado; as suas voltam na próxima inicialização.</translation>
        </message>
        <message>
            <source>This is only the address of a picture: copy the picture itself, or save it and add the file.</source>
            <translation>Este é apenas o endereço de uma imagem: copie a própria imagem, ou salve-a e adicione o arquivo.</translation>
        </message>
        <message>
            <source>This list</source>
            <translation>Esta lista</translation>
        </message>
        <message>
            <source>This portrait's own</source>
            <translation>As deste retrato</translation>
        </message>
        <message>
            <source>Tick first that you may use this picture</source>
            <translation>Marque primeiro que você pode usar esta imagem</translation>
        </message>
        <message>
            <source>Tilt</source>
            <translation>Inclinação</translation>
        </message>
        <message>
            <source>Trying again in {seconds} s.</source>
            <translation>Nova tentativa em {seconds} s.</translation>
        </message>
        <message>
            <source>Turn</source>
            <translation>Giro</translation>
        </message>
        <message>
            <source>Turn to the left</source>
            <translation>Girar para a esquerda</translation>
        </message>
        <message>
            <source>Turn to the left by a quarter (Page Up)</source>
            <translation>Girar um quarto para a esquerda (Page Up)</translation>
        </message>
        <message>
            <source>Turn to the right</source>
            <translation>Girar para a direita</translation>
        </message>
        <message>
            <source>Turn to the right by a quarter (Page Down)</source>
            <translation>Girar um quarto para a direita (Page Down)</translation>
        </message>
        <message>
            <source>Turns the picture a little (comma and full stop).</source>
            <translation>Gira um pouco a imagem (vírgula e ponto).</translation>
        </message>
        <message>
            <source>Undo</source>
            <translation>Desfazer</translation>
        </message>
        <message>
            <source>Up and down</source>
            <translation>Para cima e para baixo</translation>
        </message>
        <message>
            <source>Update macOS</source>
            <translation>Atualize o macOS</translation>
        </message>
        <message>
            <source>Use a video file…</source>
            <translation>Arquivo de vídeo…</translation>
        </message>
        <message>
            <source>Use a video, in a loop, instead of a camera</source>
            <translation>Usar um vídeo, em repetição, no lugar de uma câmera</translation>
        </message>
        <message>
            <source>Use it all the same</source>
            <translation>Usar mesmo assim</translation>
        </message>
        <message>
            <source>Use this camera</source>
            <translation>Usar esta câmera</translation>
        </message>
        <message>
            <source>Use this portrait</source>
            <translation>Usar este retrato</translation>
        </message>
        <message>
            <source>Videos ({endings});;All files (*)</source>
            <translation>Vídeos ({endings});;Todos os arquivos (*)</translation>
        </message>
        <message>
            <source>View</source>
            <translation>Exibição</translation>
        </message>
        <message>
            <source>Views</source>
            <translation>Vistas</translation>
        </message>
        <message>
            <source>Virtual camera</source>
            <translation>Câmera virtual</translation>
        </message>
        <message>
            <source>Warped</source>
            <translation>Deformado</translation>
        </message>
        <message>
            <source>What is missing before going live</source>
            <translation>O que falta para ir ao vivo</translation>
        </message>
        <message>
            <source>What is missing, and what to do</source>
            <translation>O que falta e o que fazer</translation>
        </message>
        <message>
            <source>What is seen around the portrait, or behind the person.</source>
            <translation>O que se vê em volta do retrato, ou atrás da pessoa.</translation>
        </message>
        <message>
            <source>What other programs have to show; keep it secret</source>
            <translation>O que outros programas têm de mostrar; mantenha-o em segredo</translation>
        </message>
        <message>
            <source>What the avatar does while your face is lost, until the slate comes; it moves with measured keypoints.</source>
            <translation>O que o avatar faz enquanto o seu rosto está perdido, até vir a tela de espera; ele se move com pontos-chave medidos.</translation>
        </message>
        <message>
            <source>What the decoder makes of it, with the memory's help</source>
            <translation>O que o decodificador faz disso, com a ajuda da memória</translation>
        </message>
        <message>
            <source>What the marked place takes from the memory; click to mark another one</source>
            <translation>O que o lugar marcado toma da memória; clique para marcar outro</translation>
        </message>
        <message>
            <source>What the network does inside</source>
            <translation>O que a rede faz por dentro</translation>
        </message>
        <message>
            <source>What the run has learned since cannot be used: {error}. What it had learned before goes on.</source>
            <translation>O que o treinamento aprendeu desde então não pode ser usado: {error}. Continua o que ele tinha aprendido antes.</translation>
        </message>
        <message>
            <source>What the slate says instead of “Camera is off” or “Be right back”; Enter keeps it.</source>
            <translation>O que a tela de espera diz em vez de “Camera is off” ou “Be right back”; Enter mantém.</translation>
        </message>
        <message>
            <source>What to do</source>
            <translation>O que fazer</translation>
        </message>
        <message>
            <source>What will be animated</source>
            <translation>O que será animado</translation>
        </message>
        <message>
            <source>Where other programs ask; Enter keeps it. 0: any port that is free.</source>
            <translation>Onde outros programas pedem; Enter mantém. 0: qualquer porta livre.</translation>
        </message>
        <message>
            <source>Where the eyes look.</source>
            <translation>Para onde os olhos olham.</translation>
        </message>
        <message>
            <source>Where the model runs. Automatic: where it was measured to be fastest.</source>
            <translation>Onde o modelo roda. Automático: onde foi medido como mais rápido.</translation>
        </message>
        <message>
            <source>Where the portrait stands; it can be dragged in the preview.</source>
            <translation>Onde o retrato fica; ele pode ser arrastado na prévia.</translation>
        </message>
        <message>
            <source>Where what is shown came from: the direction as a hue, 20 px and more in full colour</source>
            <translation>De onde veio o que é mostrado: a direção como matiz, cor plena a partir de 20 px</translation>
        </message>
        <message>
            <source>Which keypoint's motion moves each place, by colour; dark: the background's</source>
            <translation>Qual ponto-chave move cada lugar, por cor; escuro: o fundo</translation>
        </message>
        <message>
            <source>While away</source>
            <translation>Ausente</translation>
        </message>
        <message>
            <source>Whose sound recordings have, and calls that take the microphone for calls.</source>
            <translation>De quem é o som das gravações, e das chamadas que usam o microfone para chamadas.</translation>
        </message>
        <message>
            <source>Window</source>
            <translation>Janela</translation>
        </message>
        <message>
            <source>Windows gives the key to this app</source>
            <translation>o Windows dá a tecla a este aplicativo</translation>
        </message>
        <message>
            <source>Without</source>
            <translation>Sem imagem</translation>
        </message>
        <message>
            <source>Yellow: the moved portrait is trusted; blue: the picture is generated</source>
            <translation>Amarelo: confia-se no retrato movido; azul: a imagem é gerada</translation>
        </message>
        <message>
            <source>You are not asked to calibrate again before the same camera. What your face measures is kept on this computer for that, for your account alone; switched off, it is deleted.</source>
            <translation>Não se pede que você calibre de novo diante da mesma câmera. Para isso, o que o seu rosto mede fica guardado neste computador, só para a sua conta; desligado, é excluído.</translation>
        </message>
        <message>
            <source>You, as only you see yourself</source>
            <translation>Você, como só você se vê</translation>
        </message>
        <message>
            <source>You, with the crop that moves the avatar. Nobody else sees this. Click for another size.</source>
            <translation>Você, com o corte que move o avatar. Ninguém mais vê isto. Clique para outro tamanho.</translation>
        </message>
        <message>
            <source>Your own picture in the preview's corner (B). Hide it before you share this window.</source>
            <translation>A sua própria imagem no canto da prévia (B). Oculte-a antes de compartilhar esta janela.</translation>
        </message>
        <message>
            <source>Zoom</source>
            <translation>Zoom</translation>
        </message>
        <message>
            <source>Zoom in on you</source>
            <translation>Aproximar de você</translation>
        </message>
        <message>
            <source>Zoom out</source>
            <translation>Afastar</translation>
        </message>
        <message>
            <source>a camera's number (0), a device (/dev/video0), a network camera's address (http://, rtsp://), a video or motion file, or a folder of pictures</source>
            <translation>o número de uma câmera (0), um dispositivo (/dev/video0), o endereço de uma câmera de rede (http://, rtsp://), um arquivo de vídeo ou de movimento, ou uma pasta de imagens</translation>
        </message>
        <message>
            <source>a frame of the model takes {best}</source>
            <translation>um quadro do modelo leva {best}</translation>
        </message>
        <message>
            <source>a frame of the model takes {best} ({others})</source>
            <translation>um quadro do modelo leva {best} ({others})</translation>
        </message>
        <message>
            <source>a further GPU</source>
            <translation>mais uma GPU</translation>
        </message>
        <message>
            <source>a list of whole numbers</source>
            <translation>uma lista de números inteiros</translation>
        </message>
        <message>
            <source>a motion file has no pictures in which this model could detect keypoints: choose a model and a portrait whose keypoints can be measured, as the starter and any portrait with a face</source>
            <translation>um arquivo de movimento não tem imagens em que este modelo pudesse detectar pontos-chave: escolha um modelo e um retrato cujos pontos-chave possam ser medidos, como starter e qualquer retrato com rosto</translation>
        </message>
        <message>
            <source>a motion file has no pictures, so that it moves the avatar in space only: choose that motion</source>
            <translation>um arquivo de movimento não tem imagens, então move o avatar só no espaço: escolha esse movimento</translation>
        </message>
        <message>
            <source>a motion file takes no more than {hours} hours</source>
            <translation>um arquivo de movimento comporta no máximo {hours} horas</translation>
        </message>
        <message>
            <source>a number of thousands of digits</source>
            <translation>um número de milhares de algarismos</translation>
        </message>
        <message>
            <source>a picture becomes a portrait, a video the camera</source>
            <translation>uma imagem vira um retrato; um vídeo, a câmera</translation>
        </message>
        <message>
            <source>a portrait needs a name: got an empty one for {name}, so it keeps its own</source>
            <translation>um retrato precisa de um nome: o de {name} veio vazio, então ele mantém o seu</translation>
        </message>
        <message>
            <source>a single number</source>
            <translation>um único número</translation>
        </message>
        <message>
            <source>a table of values</source>
            <translation>uma tabela de valores</translation>
        </message>
        <message>
            <source>about {rate_hz:.2g} frames per second are too slow for a call: close what else is running and press Measure under First steps, or use a computer with a GPU</source>
            <translation>cerca de {rate_hz:.2g} quadros por segundo é pouco demais para uma chamada: feche o que mais está em execução e pressione “Medir” em “Primeiros passos”, ou use um computador com GPU</translation>
        </message>
        <message>
            <source>age</source>
            <translation>idade</translation>
        </message>
        <message>
            <source>an AMD GPU</source>
            <translation>uma GPU AMD</translation>
        </message>
        <message>
            <source>an NVIDIA GPU</source>
            <translation>uma GPU NVIDIA</translation>
        </message>
        <message>
            <source>an empty file</source>
            <translation>um arquivo vazio</translation>
        </message>
        <message>
            <source>an even width at {size_px} px (compensated)</source>
            <translation>uma largura par em {size_px} px (compensada)</translation>
        </message>
        <message>
            <source>an odd number</source>
            <translation>um número ímpar</translation>
        </message>
        <message>
            <source>another camera is used now</source>
            <translation>outra câmera está em uso agora</translation>
        </message>
        <message>
            <source>another program has it, maybe another mcnet-avatar</source>
            <translation>outro programa está com ela, talvez outro mcnet-avatar</translation>
        </message>
        <message>
            <source>as asked</source>
            <translation>como pedido</translation>
        </message>
        <message>
            <source>as measured</source>
            <translation>conforme medido</translation>
        </message>
        <message>
            <source>as usual</source>
            <translation>como de costume</translation>
        </message>
        <message>
            <source>asked for {asked_hz:g} frames/s, gives {given_hz:g} (more light often helps)</source>
            <translation>pedidos {asked_hz:g} quadros/s, dá {given_hz:g} (mais luz costuma ajudar)</translation>
        </message>
        <message>
            <source>asked for {asked}, gives {given}</source>
            <translation>pedido {asked}, dá {given}</translation>
        </message>
        <message>
            <source>at least two widths</source>
            <translation>pelo menos duas larguras</translation>
        </message>
        <message>
            <source>at least {least}</source>
            <translation>pelo menos {least}</translation>
        </message>
        <message>
            <source>at most {most}</source>
            <translation>no máximo {most}</translation>
        </message>
        <message>
            <source>avatar</source>
            <translation>avatar</translation>
        </message>
        <message>
            <source>backend: OpenVINO failed: {failure}</source>
            <translation>motor: o OpenVINO falhou: {failure}</translation>
        </message>
        <message>
            <source>backend: got 'cudagraph', but {device} was chosen, expected an NVIDIA GPU</source>
            <translation>motor: foi pedido “cudagraph”, mas {device} foi escolhido; esperava-se uma GPU NVIDIA</translation>
        </message>
        <message>
            <source>backend: got 'cudagraph', but {reason}; use backend auto or torch</source>
            <translation>motor: foi pedido “cudagraph”, mas {reason}; use o motor auto ou torch</translation>
        </message>
        <message>
            <source>backend: got 'openvino', but {lack}; use backend torch (or auto), or mend that</source>
            <translation>motor: foi pedido “openvino”, mas {lack}; use o motor torch (ou auto), ou corrija isso</translation>
        </message>
        <message>
            <source>backend: got 'torch', but {device} was chosen, where OpenVINO alone computes: use backend auto, or another device</source>
            <translation>motor: foi pedido “torch”, mas {device} foi escolhido, onde só o OpenVINO calcula: use o motor auto, ou outro dispositivo</translation>
        </message>
        <message>
            <source>backend: got {wanted}, expected one of {allowed}</source>
            <translation>motor: foi pedido {wanted}, esperava-se um de {allowed}</translation>
        </message>
        <message>
            <source>backend: torch has to compute, but {lack}; or install OpenVINO, and use a CPU</source>
            <translation>motor: o torch tem de calcular, mas {lack}; ou instale o OpenVINO e use um processador</translation>
        </message>
        <message>
            <source>background: {error}; expected own, blur, green, #rrggbb, alpha, or the file of a picture or a video</source>
            <translation>fundo: {error}; esperava-se own, blur, green, #rrggbb, alpha, ou o arquivo de uma imagem ou de um vídeo</translation>
        </message>
        <message>
            <source>because {lack}</source>
            <translation>pelo seguinte motivo: {lack}</translation>
        </message>
        <message>
            <source>blue</source>
            <translation>azul</translation>
        </message>
        <message>
            <source>calibration</source>
            <translation>calibração</translation>
        </message>
        <message>
            <source>camera</source>
            <translation>câmera</translation>
        </message>
        <message>
            <source>camera to model</source>
            <translation>câmera ao modelo</translation>
        </message>
        <message>
            <source>camera {device}</source>
            <translation>câmera {device}</translation>
        </message>
        <message>
            <source>camera {name}</source>
            <translation>câmera {name}</translation>
        </message>
        <message>
            <source>camera: got an address that begins with {scheme}://, expected http://, https:// or rtsp://</source>
            <translation>câmera: o endereço começa com {scheme}://, esperava-se http://, https:// ou rtsp://</translation>
        </message>
        <message>
            <source>camera: got an address that cannot be read, expected one such as {scheme}://192.168.1.20:8080/video; in a user name or password write / as %2F, @ as %40, # as %23 and ? as %3F</source>
            <translation>câmera: o endereço não pode ser lido, esperava-se um como {scheme}://192.168.1.20:8080/video; em um usuário ou senha escreva / como %2F, @ como %40, # como %23 e ? como %3F</translation>
        </message>
        <message>
            <source>camera: got nothing, expected {expected}</source>
            <translation>câmera: nada foi informado, esperava-se {expected}</translation>
        </message>
        <message>
            <source>camera: got {asked} for size and rate, expected {least_px} to 8192 pixels per side and 1 to 240 frames/s, as @1280x720@30</source>
            <translation>câmera: foi informado {asked} para tamanho e taxa, esperavam-se {least_px} a 8192 pixels por lado e 1 a 240 quadros/s, como @1280x720@30</translation>
        </message>
        <message>
            <source>camera: got {shown}, and there is no such file; expected {expected}</source>
            <translation>câmera: foi informado {shown}, e não existe tal arquivo; esperava-se {expected}</translation>
        </message>
        <message>
            <source>cannot keep the list of portraits in {folder}: {error}; check the disk</source>
            <translation>não é possível guardar a lista de retratos em {folder}: {error}; verifique o disco</translation>
        </message>
        <message>
            <source>cannot keep the motion in {path}: got {count} frames without a face, expected one at least</source>
            <translation>não é possível guardar o movimento em {path}: {count} quadros sem rosto, esperava-se pelo menos um com rosto</translation>
        </message>
        <message>
            <source>cannot keep the motion in {path}: got {count} frames, expected at most {most}</source>
            <translation>não é possível guardar o movimento em {path}: {count} quadros, esperavam-se no máximo {most}</translation>
        </message>
        <message>
            <source>cannot keep the motion in {path}: got {hours:.1f} hours, expected at most {most}</source>
            <translation>não é possível guardar o movimento em {path}: {hours:.1f} horas, o máximo é {most}</translation>
        </message>
        <message>
            <source>cannot keep the motion in {path}: {why}</source>
            <translation>não é possível guardar o movimento em {path}: {why}</translation>
        </message>
        <message>
            <source>cannot keep the token of control from outside in {place}: {why}</source>
            <translation>não é possível guardar o token do controle externo em {place}: {why}</translation>
        </message>
        <message>
            <source>cannot keep the {what} in {path}: {error}; check the folder's permissions</source>
            <translation>não é possível guardar em {path} ({what}): {error}; verifique as permissões da pasta</translation>
        </message>
        <message>
            <source>cannot keep this machine's signer in {path}: {why}</source>
            <translation>não é possível guardar o signatário deste computador em {path}: {why}</translation>
        </message>
        <message>
            <source>cannot make a picture for a {suffix} file: got {type} of shape {shape}, expected uint8 of shape {shapes}, with one pixel at least</source>
            <translation>não é possível criar uma imagem para um arquivo {suffix}: recebido {type} de formato {shape}, esperado uint8 de formato {shapes}, com pelo menos um pixel</translation>
        </message>
        <message>
            <source>cannot make a picture for a {suffix} file: got {width} x {height}, expected at most {most} pixels per side; make it smaller</source>
            <translation>não é possível criar uma imagem para um arquivo {suffix}: recebido {width} x {height}, esperado no máximo {most} pixels por lado; reduza-a</translation>
        </message>
        <message>
            <source>cannot make the folder for portraits {folder}: {error}; check the disk</source>
            <translation>não é possível criar a pasta de retratos {folder}: {error}; verifique o disco</translation>
        </message>
        <message>
            <source>cannot make the folder {folder}: {cause}</source>
            <translation>não é possível criar a pasta {folder}: {cause}</translation>
        </message>
        <message>
            <source>cannot open {path} at {fps_hz} frames/s: expected more than 0</source>
            <translation>não é possível abrir {path} a {fps_hz} quadros/s: esperava-se mais que 0</translation>
        </message>
        <message>
            <source>cannot put the model on {device}: {cause}; use cpu</source>
            <translation>não é possível pôr o modelo em {device}: {cause}; use cpu</translation>
        </message>
        <message>
            <source>cannot put {name} back: {error}; add the picture again</source>
            <translation>não é possível devolver {name}: {error}; adicione a imagem de novo</translation>
        </message>
        <message>
            <source>cannot read the bundled network {path}: {cause}; reinstall the package</source>
            <translation>não é possível ler a rede incluída {path}: {cause}; reinstale o pacote</translation>
        </message>
        <message>
            <source>cannot read the list of portraits {path}: {error}; check its permissions</source>
            <translation>não é possível ler a lista de retratos {path}: {error}; verifique as permissões dela</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: got a camera's raw data, expected {readable}; export it as JPEG</source>
            <translation>não é possível ler a imagem {path}: são dados brutos de uma câmera, esperava-se {readable}; exporte-a como JPEG</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: got a device, expected a file</source>
            <translation>não é possível ler a imagem {path}: é um dispositivo, esperava-se um arquivo</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: got a folder, expected a file; name one of its files</source>
            <translation>não é possível ler a imagem {path}: é uma pasta, esperava-se um arquivo; indique um dos arquivos dela</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: got {what}, expected {readable}</source>
            <translation>não é possível ler a imagem {path}: há {what}, esperava-se {readable}</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: it is damaged, cut short or of a kind that cannot be decoded ({said}); open it in a viewer and save it as JPEG, or take another</source>
            <translation>não é possível ler a imagem {path}: está danificada, cortada ou é de um tipo que não pode ser decodificado ({said}); abra-a em um visualizador e salve como JPEG, ou use outra</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: {error}</source>
            <translation>não é possível ler a imagem {path}: {error}</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: {said}; check its permissions</source>
            <translation>não é possível ler a imagem {path}: {said}; verifique as permissões dela</translation>
        </message>
        <message>
            <source>cannot read the presets in {path}: they are of format {version}, this app knows formats up to {known}; use a newer app, or move the file away</source>
            <translation>não é possível ler as predefinições em {path}: têm o formato {version}, este aplicativo conhece formatos até {known}; use um aplicativo mais novo, ou mova o arquivo</translation>
        </message>
        <message>
            <source>cannot read the presets in {path}: {error}; check its permissions, or move it away</source>
            <translation>não é possível ler as predefinições em {path}: {error}; verifique as permissões, ou mova o arquivo</translation>
        </message>
        <message>
            <source>cannot read the settings in {path}: {error}; check its permissions, or move it away</source>
            <translation>não é possível ler as configurações em {path}: {error}; verifique as permissões, ou mova o arquivo</translation>
        </message>
        <message>
            <source>cannot read the video {path}: got a folder, a device or a pipe, and a video is read more than once; save it as a file first</source>
            <translation>não é possível ler o vídeo {path}: é uma pasta, um dispositivo ou um pipe, e um vídeo é lido mais de uma vez; salve-o antes como arquivo</translation>
        </message>
        <message>
            <source>cannot read the video {path}: got an empty file; export or download it again</source>
            <translation>não é possível ler o vídeo {path}: o arquivo está vazio; exporte-o ou baixe-o de novo</translation>
        </message>
        <message>
            <source>cannot read the video {path}: {said}; expected a video such as MP4, MOV or WebM</source>
            <translation>não é possível ler o vídeo {path}: {said}; esperava-se um vídeo como MP4, MOV ou WebM</translation>
        </message>
        <message>
            <source>cannot read this machine's signer {path}: {why}</source>
            <translation>não é possível ler o signatário deste computador {path}: {why}</translation>
        </message>
        <message>
            <source>cannot read {path}: got a device or a pipe, expected a file</source>
            <translation>não é possível ler {path}: é um dispositivo ou um pipe, esperava-se um arquivo</translation>
        </message>
        <message>
            <source>cannot read {path}: {why}; check its name</source>
            <translation>não é possível ler {path}: {why}; verifique o nome</translation>
        </message>
        <message>
            <source>cannot record to {path}: got suffix {suffix}, expected .mp4 or .webm</source>
            <translation>não é possível gravar em {path}: a extensão é {suffix}, esperava-se .mp4 ou .webm</translation>
        </message>
        <message>
            <source>cannot record to {path}: the encoder {codec} cannot be opened for {width_px} x {height_px} ({cause}); choose another size, or install the app again</source>
            <translation>não é possível gravar em {path}: o codificador {codec} não abre para {width_px} x {height_px} ({cause}); escolha outro tamanho, ou instale o aplicativo de novo</translation>
        </message>
        <message>
            <source>cannot record to {path}: there is no folder {parent}; make it first</source>
            <translation>não é possível gravar em {path}: não existe a pasta {parent}; crie-a primeiro</translation>
        </message>
        <message>
            <source>cannot record to {path}: {cause}</source>
            <translation>não é possível gravar em {path}: {cause}</translation>
        </message>
        <message>
            <source>cannot remove the token {place}: {why}</source>
            <translation>não é possível remover o token {place}: {why}</translation>
        </message>
        <message>
            <source>cannot remove {path}: {error}; check the folder's permissions</source>
            <translation>não é possível remover {path}: {error}; verifique as permissões da pasta</translation>
        </message>
        <message>
            <source>cannot say in {place} where the app listens: {why}</source>
            <translation>não é possível anotar em {place} onde o aplicativo escuta: {why}</translation>
        </message>
        <message>
            <source>cannot use the file {path}: {cause}; check its name and its folder</source>
            <translation>não é possível usar o arquivo {path}: {cause}; verifique o nome e a pasta dele</translation>
        </message>
        <message>
            <source>cannot use the file: {cause}; check its name and its folder</source>
            <translation>não é possível usar o arquivo: {cause}; verifique o nome e a pasta dele</translation>
        </message>
        <message>
            <source>cannot use the folder {folder}: {cause}</source>
            <translation>não é possível usar a pasta {folder}: {cause}</translation>
        </message>
        <message>
            <source>cannot use the pictures of {path}: got {name}, {width} x {height}, which cannot be converted ({error}); export it again as H.264 in MP4</source>
            <translation>não é possível usar as imagens de {path}: {name}, {width} x {height} não pode ser convertido ({error}); exporte-o de novo como H.264 em MP4</translation>
        </message>
        <message>
            <source>cannot use {path} as a video: got an animated WebP, whose pictures cannot be decoded; convert it to MP4 or GIF</source>
            <translation>não é possível usar {path} como vídeo: é um WebP animado, cujas imagens não podem ser decodificadas; converta-o para MP4 ou GIF</translation>
        </message>
        <message>
            <source>cannot use {path} as a video: got {what}, expected a video with pictures, such as H.264 in MP4</source>
            <translation>não é possível usar {path} como vídeo: há {what}, esperava-se um vídeo com imagens, como H.264 em MP4</translation>
        </message>
        <message>
            <source>cannot write a picture to {path}: got suffix {suffix}, expected {suffixes}</source>
            <translation>não é possível gravar uma imagem em {path}: a extensão é {suffix}, esperava-se {suffixes}</translation>
        </message>
        <message>
            <source>cannot write the picture {path}: it is a folder, expected a file name</source>
            <translation>não é possível gravar a imagem {path}: é uma pasta, esperava-se um nome de arquivo</translation>
        </message>
        <message>
            <source>cannot write the picture {path}: {cause}</source>
            <translation>não é possível gravar a imagem {path}: {cause}</translation>
        </message>
        <message>
            <source>choose a disk that takes larger files, or make it shorter</source>
            <translation>escolha um disco que aceite arquivos maiores, ou faça-o mais curto</translation>
        </message>
        <message>
            <source>choose another place</source>
            <translation>escolha outro lugar</translation>
        </message>
        <message>
            <source>chroma green</source>
            <translation>verde chroma</translation>
        </message>
        <message>
            <source>close your mouth</source>
            <translation>feche a boca</translation>
        </message>
        <message>
            <source>compose</source>
            <translation>compor</translation>
        </message>
        <message>
            <source>config key {key}: got {got}, expected {expected}</source>
            <translation>chave de configuração {key}: recebido {got}, esperado {expected}</translation>
        </message>
        <message>
            <source>config key {prefix}{missing} is missing</source>
            <translation>falta a chave de configuração {prefix}{missing}</translation>
        </message>
        <message>
            <source>control from outside cannot listen on port {port}: {why}; choose another port, or 0 for any that is free</source>
            <translation>o controle externo não pode escutar na porta {port}: {why}; escolha outra porta, ou 0 para qualquer uma livre</translation>
        </message>
        <message>
            <source>control from outside cannot start: {why}</source>
            <translation>o controle externo não pode iniciar: {why}</translation>
        </message>
        <message>
            <source>control from outside: got port {port}, expected 0 to 65535</source>
            <translation>controle externo: a porta é {port}, esperava-se 0 a 65535</translation>
        </message>
        <message>
            <source>crop</source>
            <translation>corte</translation>
        </message>
        <message>
            <source>cut out</source>
            <translation>recortar</translation>
        </message>
        <message>
            <source>cutting the person out; the scene stays until then…</source>
            <translation>recortando a pessoa; até lá a cena permanece…</translation>
        </message>
        <message>
            <source>delay your microphone by {delay_ms} ms</source>
            <translation>atrase o microfone em {delay_ms} ms</translation>
        </message>
        <message>
            <source>detect</source>
            <translation>detectar</translation>
        </message>
        <message>
            <source>device: got {name}, but {lack}; use --device cpu (or auto), or mend that</source>
            <translation>dispositivo: foi pedido {name}, mas {lack}; use --device cpu (ou auto), ou corrija isso</translation>
        </message>
        <message>
            <source>device: got {name}, expected auto, cpu, cuda, cuda:N, gpu, gpu:N or mps</source>
            <translation>dispositivo: foi pedido {name}, esperava-se auto, cpu, cuda, cuda:N, gpu, gpu:N ou mps</translation>
        </message>
        <message>
            <source>done</source>
            <translation>feito</translation>
        </message>
        <message>
            <source>dropped</source>
            <translation>perdidos</translation>
        </message>
        <message>
            <source>dropped {percent:.0f} %</source>
            <translation>{percent:.0f} % perdidos</translation>
        </message>
        <message>
            <source>encode</source>
            <translation>codificar</translation>
        </message>
        <message>
            <source>everything is ready</source>
            <translation>tudo está pronto</translation>
        </message>
        <message>
            <source>face</source>
            <translation>rosto</translation>
        </message>
        <message>
            <source>face lost: returning to rest</source>
            <translation>rosto perdido: voltando ao repouso</translation>
        </message>
        <message>
            <source>face lost: the last picture stays</source>
            <translation>rosto perdido: a última imagem fica</translation>
        </message>
        <message>
            <source>fine detail</source>
            <translation>detalhes finos</translation>
        </message>
        <message>
            <source>getting ready</source>
            <translation>preparando</translation>
        </message>
        <message>
            <source>got 32 bits per channel, expected 8 or 16; convert it to JPEG or PNG</source>
            <translation>tem 32 bits por canal, esperavam-se 8 ou 16; converta-a para JPEG ou PNG</translation>
        </message>
        <message>
            <source>got Lab colours with a profile that cannot be used; convert it to JPEG or PNG</source>
            <translation>tem cores Lab com um perfil que não pode ser usado; converta-a para JPEG ou PNG</translation>
        </message>
        <message>
            <source>got PipeWire {version}, expected {oldest} or newer; update it</source>
            <translation>este é o PipeWire {version}, esperava-se {oldest} ou mais novo; atualize-o</translation>
        </message>
        <message>
            <source>got a network address, and only a file of this machine can be used; download it first</source>
            <translation>é um endereço de rede, e só um arquivo deste computador pode ser usado; baixe-o primeiro</translation>
        </message>
        <message>
            <source>got figures of format {evaluation}, expected 'mcnet-evaluation/2'</source>
            <translation>os números têm o formato {evaluation}, esperava-se “mcnet-evaluation/2”</translation>
        </message>
        <message>
            <source>got only a private key to sign with: name the file of its certificates as well</source>
            <translation>para assinar foi dada só uma chave privada: indique também o arquivo dos certificados dela</translation>
        </message>
        <message>
            <source>got only certificates to sign with: name the file of their private key as well</source>
            <translation>para assinar foram dados só certificados: indique também o arquivo da chave privada deles</translation>
        </message>
        <message>
            <source>got pictures of shape {shape}, expected (height, width, 3) of at least {least_px} pixels per side</source>
            <translation>as imagens têm a forma {shape}, esperava-se (altura, largura, 3) com pelo menos {least_px} pixels por lado</translation>
        </message>
        <message>
            <source>got {got}, expected a list</source>
            <translation>{got}, esperava-se uma lista</translation>
        </message>
        <message>
            <source>ink</source>
            <translation>tinta</translation>
        </message>
        <message>
            <source>install the app again</source>
            <translation>instale o aplicativo de novo</translation>
        </message>
        <message>
            <source>int8 with OpenVINO, else {precision}</source>
            <translation>int8 com OpenVINO, senão {precision}</translation>
        </message>
        <message>
            <source>it cannot be signed: {why}</source>
            <translation>não pode ser assinado: {why}</translation>
        </message>
        <message>
            <source>it has {frames} frames, which is as many as a motion file takes</source>
            <translation>ele tem {frames} quadros, o máximo de um arquivo de movimento</translation>
        </message>
        <message>
            <source>it is the fastest on x86-64 CPUs</source>
            <translation>é o mais rápido em processadores x86-64</translation>
        </message>
        <message>
            <source>it is what computes on Apple GPUs</source>
            <translation>é o que calcula em GPUs da Apple</translation>
        </message>
        <message>
            <source>it is what computes on Intel GPUs</source>
            <translation>é o que calcula em GPUs Intel</translation>
        </message>
        <message>
            <source>it opens, but gives no frames</source>
            <translation>ela abre, mas não dá imagens</translation>
        </message>
        <message>
            <source>it was changed, moved or removed while it was being signed</source>
            <translation>foi alterado, movido ou removido enquanto era assinado</translation>
        </message>
        <message>
            <source>it was ended</source>
            <translation>foi encerrado</translation>
        </message>
        <message>
            <source>it was removed meanwhile</source>
            <translation>foi removido nesse meio-tempo</translation>
        </message>
        <message>
            <source>its first {value:g} s are kept</source>
            <translation>os primeiros {value:g} s foram mantidos</translation>
        </message>
        <message>
            <source>its header is no JSON</source>
            <translation>o cabeçalho não é JSON</translation>
        </message>
        <message>
            <source>its linear jacobians are no {rows} rows of {columns} numbers, as {count} keypoints on the face mesh have them</source>
            <translation>suas jacobianas lineares não são {rows} linhas de {columns} números, como as têm {count} pontos-chave na malha do rosto</translation>
        </message>
        <message>
            <source>its linear jacobians have {value}, expected finite numbers</source>
            <translation>suas jacobianas lineares contêm {value}; esperavam-se números finitos</translation>
        </message>
        <message>
            <source>its process ended with {status}: out of memory, or a library crashed</source>
            <translation>o processo terminou com {status}: faltou memória, ou uma biblioteca travou</translation>
        </message>
        <message>
            <source>its statement would go to {path}, where another file is: move or rename that one</source>
            <translation>a declaração iria para {path}, onde há outro arquivo: mova-o ou renomeie-o</translation>
        </message>
        <message>
            <source>key: got {key}, expected a letter, a digit, F1 to F24, Pause, ScrollLock, Print, Ins, Del, Home, End, PgUp, PgDown or Space, with Ctrl, Alt, Shift or Meta, such as Ctrl+Alt+0</source>
            <translation>tecla: {key}; esperava-se uma letra, um dígito, F1 a F24, Pause, ScrollLock, Print, Ins, Del, Home, End, PgUp, PgDown ou Space, com Ctrl, Alt, Shift ou Meta, como Ctrl+Alt+0</translation>
        </message>
        <message>
            <source>key: {key} alone would be taken from whatever you write: choose it with Ctrl, Alt or Meta, or a key such as Pause or F9</source>
            <translation>tecla: {key} sozinha faltaria em tudo o que você escreve: escolha-a com Ctrl, Alt ou Meta, ou uma tecla como Pause ou F9</translation>
        </message>
        <message>
            <source>key: {key} is another program's already, the desktop's maybe: choose another one</source>
            <translation>tecla: {key} já é de outro programa, talvez da área de trabalho: escolha outra</translation>
        </message>
        <message>
            <source>key: {key} is another program's already: choose another one</source>
            <translation>tecla: {key} já é de outro programa: escolha outra</translation>
        </message>
        <message>
            <source>key: {key} is not on this keyboard: choose another one, such as Ctrl+Alt+0</source>
            <translation>tecla: {key} não está neste teclado: escolha outra, como Ctrl+Alt+0</translation>
        </message>
        <message>
            <source>lids</source>
            <comment>measure</comment>
            <translation>pálpebras</translation>
        </message>
        <message>
            <source>light grey</source>
            <translation>cinza-claro</translation>
        </message>
        <message>
            <source>live</source>
            <translation>ao vivo</translation>
        </message>
        <message>
            <source>loading the model…</source>
            <translation>carregando o modelo…</translation>
        </message>
        <message>
            <source>look as the portrait does</source>
            <translation>fique como o retrato</translation>
        </message>
        <message>
            <source>look straight into the camera</source>
            <translation>olhe direto para a câmera</translation>
        </message>
        <message>
            <source>looking at the model…</source>
            <translation>examinando o modelo…</translation>
        </message>
        <message>
            <source>macOS gives a key to one app only with the right to watch all keys: have the Shortcuts app run mcnet-avatar ctl slate by a key</source>
            <translation>o macOS só dá uma tecla a um aplicativo com o direito de observar todas: faça o aplicativo Atalhos executar mcnet-avatar ctl slate por uma tecla</translation>
        </message>
        <message>
            <source>make room on the disk</source>
            <translation>libere espaço no disco</translation>
        </message>
        <message>
            <source>make room: what you may use of the disk is used up</source>
            <translation>libere espaço: o que você pode usar do disco se esgotou</translation>
        </message>
        <message>
            <source>matte</source>
            <translation>máscara</translation>
        </message>
        <message>
            <source>measuring</source>
            <translation>medindo</translation>
        </message>
        <message>
            <source>measuring…</source>
            <translation>medindo…</translation>
        </message>
        <message>
            <source>model</source>
            <translation>modelo</translation>
        </message>
        <message>
            <source>model to sinks</source>
            <translation>modelo às saídas</translation>
        </message>
        <message>
            <source>model {model} gave NaN for the keypoints of this frame: use precision fp32 or another model; the frame is not shown</source>
            <translation>o modelo {model} deu NaN para os pontos-chave deste quadro: use a precisão fp32 ou outro modelo; o quadro não é mostrado</translation>
        </message>
        <message>
            <source>model {model} gave NaN for the {what}: use precision fp32 or another model</source>
            <translation>o modelo {model} deu NaN ({what}): use a precisão fp32 ou outro modelo</translation>
        </message>
        <message>
            <source>model {model} gave NaN or infinite values for this frame, expected colours in [0, 1]: use precision fp32 or another model; the frame is not shown</source>
            <translation>o modelo {model} deu NaN ou valores infinitos para este quadro, esperavam-se cores em [0, 1]: use a precisão fp32 ou outro modelo; o quadro não é mostrado</translation>
        </message>
        <message>
            <source>model {name}</source>
            <translation>o modelo {name}</translation>
        </message>
        <message>
            <source>mouth</source>
            <comment>measure</comment>
            <translation>boca</translation>
        </message>
        <message>
            <source>mps is for Apple's GPUs, and this is {system}</source>
            <translation>mps é para GPUs da Apple, e este é {system}</translation>
        </message>
        <message>
            <source>ms</source>
            <translation>ms</translation>
        </message>
        <message>
            <source>name of the PipeWire camera: got {name}, expected 1 to {longest} printable characters</source>
            <translation>nome da câmera PipeWire: {name}, esperavam-se 1 a {longest} caracteres imprimíveis</translation>
        </message>
        <message>
            <source>needs a hand</source>
            <translation>precisa de ajuda</translation>
        </message>
        <message>
            <source>network camera {address}</source>
            <translation>câmera de rede {address}</translation>
        </message>
        <message>
            <source>neutral face, any direction</source>
            <translation>rosto neutro, qualquer direção</translation>
        </message>
        <message>
            <source>no camera at {path}: got nothing there; {advice}</source>
            <translation>não há câmera em {path}: não há nada lá; {advice}</translation>
        </message>
        <message>
            <source>no camera picture</source>
            <translation>sem imagem da câmera</translation>
        </message>
        <message>
            <source>no camera was found: plug one in, or use a video file</source>
            <translation>nenhuma câmera foi encontrada: conecte uma, ou use um arquivo de vídeo</translation>
        </message>
        <message>
            <source>no camera yet: choose one under Camera</source>
            <translation>ainda sem câmera: escolha uma em “Câmera”</translation>
        </message>
        <message>
            <source>no configuration is named {name}; the named ones are {named}</source>
            <translation>nenhuma configuração se chama {name}; existem {named}</translation>
        </message>
        <message>
            <source>no face in {name}: got none that looks towards the camera; take another picture, larger or from the front, or turn this one upright</source>
            <translation>não há rosto em {name}: nenhum olha para a câmera; use outra imagem, maior ou de frente, ou desvire esta</translation>
        </message>
        <message>
            <source>no face is shown</source>
            <translation>nenhum rosto é mostrado</translation>
        </message>
        <message>
            <source>no face was found in it</source>
            <translation>nenhum rosto foi encontrado nela</translation>
        </message>
        <message>
            <source>no face was found in this portrait</source>
            <translation>nenhum rosto foi encontrado neste retrato</translation>
        </message>
        <message>
            <source>no face was seen while the motion was recorded: there is no file {path}</source>
            <translation>nenhum rosto foi visto enquanto o movimento era gravado: não há arquivo {path}</translation>
        </message>
        <message>
            <source>no face was seen, so that nothing was calibrated: look into the camera, and calibrate again</source>
            <translation>nenhum rosto foi visto, então nada foi calibrado: olhe para a câmera e calibre de novo</translation>
        </message>
        <message>
            <source>no face: the avatar rests</source>
            <translation>sem rosto: o avatar repousa</translation>
        </message>
        <message>
            <source>no file is chosen; choose a picture or a video</source>
            <translation>nenhum arquivo foi escolhido; escolha uma imagem ou um vídeo</translation>
        </message>
        <message>
            <source>no frame of {path} can be decoded: it is damaged or cut short; export it again</source>
            <translation>nenhum quadro de {path} pode ser decodificado: está danificado ou cortado; exporte-o de novo</translation>
        </message>
        <message>
            <source>no frame of {path} can be decoded; choose another video</source>
            <translation>nenhum quadro de {path} pode ser decodificado; escolha outro vídeo</translation>
        </message>
        <message>
            <source>no model {name_or_path}: got neither a file, a folder nor a bundled name, expected a .safetensors or .pth.tar file or a model's folder (check the path) or one of: {bundled}</source>
            <translation>não há modelo {name_or_path}: não é arquivo, pasta nem nome incluído; esperava-se um arquivo .safetensors ou .pth.tar ou a pasta de um modelo (verifique o caminho), ou um de: {bundled}</translation>
        </message>
        <message>
            <source>no motion file {path}: there is no such file</source>
            <translation>não há arquivo de movimento {path}: não existe tal arquivo</translation>
        </message>
        <message>
            <source>no permission for {path} ({name}): run `sudo usermod -aG video $USER`, then log out and in again</source>
            <translation>sem permissão para {path} ({name}): execute `sudo usermod -aG video $USER`, depois saia da sessão e entre de novo</translation>
        </message>
        <message>
            <source>no person is told apart from the background</source>
            <translation>nenhuma pessoa se distingue do fundo</translation>
        </message>
        <message>
            <source>no picture at {path}: check the path</source>
            <translation>não há imagem em {path}: verifique o caminho</translation>
        </message>
        <message>
            <source>no picture track</source>
            <translation>nenhuma faixa de imagem</translation>
        </message>
        <message>
            <source>no portrait can be used: add another one</source>
            <translation>nenhum retrato pode ser usado: adicione outro</translation>
        </message>
        <message>
            <source>no portrait yet: choose one, or add yours</source>
            <translation>ainda sem retrato: escolha um, ou adicione o seu</translation>
        </message>
        <message>
            <source>no portrait {text}: got neither a file nor a known name ({names}); check the path or the name</source>
            <translation>não há retrato {text}: não é arquivo nem nome conhecido ({names}); verifique o caminho ou o nome</translation>
        </message>
        <message>
            <source>no process could be started for it ({error})</source>
            <translation>nenhum processo pôde ser iniciado para isso ({error})</translation>
        </message>
        <message>
            <source>no video at {path}: check the path</source>
            <translation>não há vídeo em {path}: verifique o caminho</translation>
        </message>
        <message>
            <source>none</source>
            <translation>nenhuma</translation>
        </message>
        <message>
            <source>none yet</source>
            <translation>nenhuma ainda</translation>
        </message>
        <message>
            <source>not calibrated yet: look into the camera, or press Calibrate</source>
            <translation>ainda não calibrado: olhe para a câmera, ou pressione “Calibrar”</translation>
        </message>
        <message>
            <source>not needed in absolute motion</source>
            <translation>não é preciso no movimento absoluto</translation>
        </message>
        <message>
            <source>not stated</source>
            <translation>não informada</translation>
        </message>
        <message>
            <source>nothing</source>
            <translation>nada</translation>
        </message>
        <message>
            <source>nothing here runs model {model}: {reasons}; is another program in the way?</source>
            <translation>nada aqui roda o modelo {model}: {reasons}; outro programa atrapalha?</translation>
        </message>
        <message>
            <source>nothing is there</source>
            <translation>não há nada</translation>
        </message>
        <message>
            <source>nothing of it could be kept</source>
            <translation>nada dela pôde ser mantido</translation>
        </message>
        <message>
            <source>nothing yet</source>
            <translation>nada ainda</translation>
        </message>
        <message>
            <source>of unknown version</source>
            <translation>de versão desconhecida</translation>
        </message>
        <message>
            <source>on Debian or Ubuntu: apt-get install libpulse0</source>
            <translation>no Debian ou Ubuntu: apt-get install libpulse0</translation>
        </message>
        <message>
            <source>only sound</source>
            <translation>só som</translation>
        </message>
        <message>
            <source>only you see this</source>
            <translation>só você vê isto</translation>
        </message>
        <message>
            <source>open your eyes</source>
            <translation>abra os olhos</translation>
        </message>
        <message>
            <source>open your mouth as in the portrait</source>
            <translation>abra a boca como no retrato</translation>
        </message>
        <message>
            <source>openvino cannot be used: {failure}</source>
            <translation>o openvino não pode ser usado: {failure}</translation>
        </message>
        <message>
            <source>output</source>
            <translation>saída</translation>
        </message>
        <message>
            <source>part of the face is cut off</source>
            <translation>parte do rosto está cortada</translation>
        </message>
        <message>
            <source>pictures in a codec that cannot be decoded</source>
            <translation>imagens em um codec que não pode ser decodificado</translation>
        </message>
        <message>
            <source>pine</source>
            <translation>pinho</translation>
        </message>
        <message>
            <source>places: got {given} of shape {got}, expected {pictures} of shape {shape}, finite numbers</source>
            <translation>places: recebidos {given} de forma {got}, esperados {pictures} de forma {shape}, números finitos</translation>
        </message>
        <message>
            <source>plug it in, or choose another: {there}</source>
            <translation>conecte-a, ou escolha outra: {there}</translation>
        </message>
        <message>
            <source>plug one in; no camera is there at all</source>
            <translation>conecte uma; não há nenhuma câmera</translation>
        </message>
        <message>
            <source>portrait</source>
            <translation>retrato</translation>
        </message>
        <message>
            <source>portrait angle_deg: got {angle_deg}, expected a number</source>
            <translation>retrato angle_deg: {angle_deg}, esperava-se um número</translation>
        </message>
        <message>
            <source>portrait box: got {box}, expected three numbers, the last of them above 0</source>
            <translation>retrato box: {box}, esperavam-se três números, o último deles maior que 0</translation>
        </message>
        <message>
            <source>precision: got 'int8', but {lack}</source>
            <translation>precisão: foi pedido “int8”, mas {lack}</translation>
        </message>
        <message>
            <source>precision: got bf16 on {device}, expected fp32 or fp16 there</source>
            <translation>precisão: foi pedido bf16 em {device}, lá esperava-se fp32 ou fp16</translation>
        </message>
        <message>
            <source>precision: got bf16 on {device}, expected fp32, fp16 or int8 there</source>
            <translation>precisão: recebido bf16 em {device}, esperado fp32, fp16 ou int8 ali</translation>
        </message>
        <message>
            <source>precision: got fp16 on the CPU, expected fp32, bf16 or int8 there (fp16 is for GPUs)</source>
            <translation>precisão: recebido fp16 na CPU, esperado fp32, bf16 ou int8 ali (fp16 é para GPUs)</translation>
        </message>
        <message>
            <source>precision: got {precision}, expected one of {allowed}</source>
            <translation>precisão: foi pedido {precision}, esperava-se um de {allowed}</translation>
        </message>
        <message>
            <source>preset: got {name} for a name, expected 1 to {most} characters</source>
            <translation>predefinição: {name} como nome, esperavam-se 1 a {most} caracteres</translation>
        </message>
        <message>
            <source>preset: got {name}, expected one of your own: {own}</source>
            <translation>predefinição: {name}, esperava-se uma das suas: {own}</translation>
        </message>
        <message>
            <source>preset: got {name}, expected one of {names}</source>
            <translation>predefinição: {name}, esperava-se uma de {names}</translation>
        </message>
        <message>
            <source>preset: there are {count} already, expected no more: delete one first</source>
            <translation>predefinição: já há {count}, não se preveem mais: exclua uma primeiro</translation>
        </message>
        <message>
            <source>preset: {name} is there already: choose another name, or delete it first</source>
            <translation>predefinição: {name} já existe: escolha outro nome, ou exclua-a primeiro</translation>
        </message>
        <message>
            <source>preset: {name} stays as it is: choose another name</source>
            <translation>predefinição: {name} fica como está: escolha outro nome</translation>
        </message>
        <message>
            <source>presets</source>
            <translation>predefinições</translation>
        </message>
        <message>
            <source>process {name}</source>
            <translation>processo {name}</translation>
        </message>
        <message>
            <source>reading the portrait…</source>
            <translation>lendo o retrato…</translation>
        </message>
        <message>
            <source>recorded frames are the fastest on GPUs</source>
            <translation>quadros gravados são os mais rápidos em GPUs</translation>
        </message>
        <message>
            <source>recording {path}: got a picture of {got}, expected {shape}</source>
            <translation>gravação {path}: a imagem é {got}, esperava-se {shape}</translation>
        </message>
        <message>
            <source>render</source>
            <translation>renderizar</translation>
        </message>
        <message>
            <source>retouch</source>
            <translation>retocar</translation>
        </message>
        <message>
            <source>row {number}: got {got}, expected a portrait with its key</source>
            <translation>linha {number}: {got}, esperava-se um retrato com a sua chave (key)</translation>
        </message>
        <message>
            <source>row {number}: there is no picture {got}</source>
            <translation>linha {number}: não há nenhuma imagem {got}</translation>
        </message>
        <message>
            <source>row {number}: {error}</source>
            <translation>linha {number}: {error}</translation>
        </message>
        <message>
            <source>runs on</source>
            <translation>roda em</translation>
        </message>
        <message>
            <source>see that its app is in front, the phone awake, and both in the same network</source>
            <translation>veja se o aplicativo está à frente, o telefone acordado, e ambos na mesma rede</translation>
        </message>
        <message>
            <source>see whether the disk is slow</source>
            <translation>veja se o disco está lento</translation>
        </message>
        <message>
            <source>send</source>
            <translation>enviar</translation>
        </message>
        <message>
            <source>setting</source>
            <translation>configuração</translation>
        </message>
        <message>
            <source>setting background_colour: got {colour}, expected #rrggbb</source>
            <translation>configuração background_colour: {colour}, esperava-se #rrggbb</translation>
        </message>
        <message>
            <source>setting inspector_views: got {views}, expected {least_views} to {most_views} different ones</source>
            <translation>configuração inspector_views: {views}, esperavam-se {least_views} a {most_views} diferentes</translation>
        </message>
        <message>
            <source>setting slate_text: got {got} characters, expected at most {longest_slate_text}</source>
            <translation>configuração slate_text: {got} caracteres, esperavam-se no máximo {longest_slate_text}</translation>
        </message>
        <message>
            <source>setting slate_text: the slate cannot show {characters}; leave that out, or have a picture that shows it as slate_image</source>
            <translation>configuração slate_text: a tela de espera não consegue mostrar {characters}; retire isso ou indique em slate_image uma imagem que o mostre</translation>
        </message>
        <message>
            <source>setting {name}: got {value}, expected an even number</source>
            <translation>configuração {name}: {value}, esperava-se um número par</translation>
        </message>
        <message>
            <source>setting {name}: got {value}, expected {low} to {high}</source>
            <translation>configuração {name}: {value}, esperava-se {low} a {high}</translation>
        </message>
        <message>
            <source>settings</source>
            <translation>configurações</translation>
        </message>
        <message>
            <source>several people are in it; the largest face is used</source>
            <translation>há várias pessoas nela; o maior rosto é usado</translation>
        </message>
        <message>
            <source>show your face to the camera</source>
            <translation>mostre o rosto à câmera</translation>
        </message>
        <message>
            <source>signing needs room for a second copy: got {free_mb:.0f} MB, expected {needed_mb:.0f} MB; make room on the disk</source>
            <translation>assinar precisa de espaço para uma segunda cópia: há {free_mb:.0f} MB livres, esperavam-se {needed_mb:.0f} MB; libere espaço no disco</translation>
        </message>
        <message>
            <source>skin, teeth and shut lids cannot be drawn for this portrait: {error}</source>
            <translation>a pele, os dentes e as pálpebras fechadas não podem ser desenhados para este retrato: {error}</translation>
        </message>
        <message>
            <source>slate grey</source>
            <translation>cinza-ardósia</translation>
        </message>
        <message>
            <source>slate until the camera is back</source>
            <translation>tela de espera até a câmera voltar</translation>
        </message>
        <message>
            <source>slate until your face is back</source>
            <translation>tela de espera até o seu rosto voltar</translation>
        </message>
        <message>
            <source>some of {sizes_px}, in rising order</source>
            <translation>alguns de {sizes_px}, em ordem crescente</translation>
        </message>
        <message>
            <source>something else or a damaged file</source>
            <translation>outra coisa ou um arquivo danificado</translation>
        </message>
        <message>
            <source>starting…</source>
            <translation>iniciando…</translation>
        </message>
        <message>
            <source>surroundings</source>
            <translation>arredores</translation>
        </message>
        <message>
            <source>the Apple GPU</source>
            <translation>a GPU da Apple</translation>
        </message>
        <message>
            <source>the GPU is not used: {failure}</source>
            <translation>a GPU não é usada: {failure}</translation>
        </message>
        <message>
            <source>the GPU that torch found</source>
            <translation>a GPU que o torch encontrou</translation>
        </message>
        <message>
            <source>the PipeWire camera cannot be made: {error}</source>
            <translation>a câmera PipeWire não pode ser criada: {error}</translation>
        </message>
        <message>
            <source>the PipeWire camera cannot be opened: no daemon listens at {socket} ({error}); start it with `systemctl --user start pipewire wireplumber`, or see `mcnet-avatar --doctor`</source>
            <translation>a câmera PipeWire não pode ser aberta: nenhum serviço escuta em {socket} ({error}); inicie-o com `systemctl --user start pipewire wireplumber`, ou veja `mcnet-avatar --doctor`</translation>
        </message>
        <message>
            <source>the PipeWire camera is not open; open it first</source>
            <translation>a câmera PipeWire não está aberta; abra-a primeiro</translation>
        </message>
        <message>
            <source>the PipeWire camera is open already ({detail}); close it first</source>
            <translation>a câmera PipeWire já está aberta ({detail}); feche-a primeiro</translation>
        </message>
        <message>
            <source>the X server does not answer for a key: {failure}</source>
            <translation>o servidor X não responde ao pedido da tecla: {failure}</translation>
        </message>
        <message>
            <source>the X server gives the key to this app</source>
            <translation>o servidor X dá a tecla a este aplicativo</translation>
        </message>
        <message>
            <source>the X server has ended: {failure}</source>
            <translation>o servidor X terminou: {failure}</translation>
        </message>
        <message>
            <source>the authors' released weights are not bundled: download their checkpoint and give its path (.pth.tar)</source>
            <translation>os pesos publicados pelos autores não estão incluídos: baixe o checkpoint deles e informe o caminho (.pth.tar)</translation>
        </message>
        <message>
            <source>the background is to be a picture, but none is chosen: choose a file, or another background</source>
            <translation>o fundo deve ser uma imagem, mas nenhuma foi escolhida: escolha um arquivo, ou outro fundo</translation>
        </message>
        <message>
            <source>the background picture</source>
            <translation>a imagem de fundo</translation>
        </message>
        <message>
            <source>the background video cannot be used: {error}</source>
            <translation>o vídeo de fundo não pode ser usado: {error}</translation>
        </message>
        <message>
            <source>the bundle has no torch (an installation by pip has)</source>
            <translation>o pacote autônomo não inclui o torch (uma instalação por pip, sim)</translation>
        </message>
        <message>
            <source>the calibration is under way</source>
            <translation>a calibração está em andamento</translation>
        </message>
        <message>
            <source>the call sees the slate</source>
            <translation>a chamada vê a tela de espera</translation>
        </message>
        <message>
            <source>the camera cannot be used: choose another one</source>
            <translation>a câmera não pode ser usada: escolha outra</translation>
        </message>
        <message>
            <source>the camera gives no frames: plug it in again, or choose another one</source>
            <translation>a câmera não dá imagens: conecte-a de novo, ou escolha outra</translation>
        </message>
        <message>
            <source>the camera is being opened</source>
            <translation>a câmera está sendo aberta</translation>
        </message>
        <message>
            <source>the camera's frames have another size now</source>
            <translation>os quadros da câmera têm agora outro tamanho</translation>
        </message>
        <message>
            <source>the certificate in {path} is valid from {begin} to {end} and not now: get a new one</source>
            <translation>o certificado em {path} vale de {begin} a {end} e não agora: obtenha um novo</translation>
        </message>
        <message>
            <source>the desktop did not give the key: allow it in its settings for shortcuts</source>
            <translation>a área de trabalho não deu a tecla: permita-a nas configurações de atalhos dela</translation>
        </message>
        <message>
            <source>the desktop has taken the key back</source>
            <translation>a área de trabalho tomou a tecla de volta</translation>
        </message>
        <message>
            <source>the desktop is asked for the key, and may ask you</source>
            <translation>a tecla é pedida à área de trabalho, que talvez pergunte a você</translation>
        </message>
        <message>
            <source>the desktop's portal does not answer</source>
            <translation>o portal da área de trabalho não responde</translation>
        </message>
        <message>
            <source>the desktop's portal has refused the key: bind mcnet-avatar ctl slate there</source>
            <translation>o portal da área de trabalho recusou a tecla: associe lá mcnet-avatar ctl slate</translation>
        </message>
        <message>
            <source>the engine knows those of NVIDIA, Intel and Apple</source>
            <translation>o motor conhece as da NVIDIA, da Intel e da Apple</translation>
        </message>
        <message>
            <source>the eyes are hardly open</source>
            <translation>os olhos mal estão abertos</translation>
        </message>
        <message>
            <source>the face is close to the picture's border</source>
            <translation>o rosto está perto da borda da imagem</translation>
        </message>
        <message>
            <source>the face is dark: take a picture in more light</source>
            <translation>o rosto está escuro: tire uma foto com mais luz</translation>
        </message>
        <message>
            <source>the face is over-exposed: take a picture in less light</source>
            <translation>o rosto está superexposto: tire uma foto com menos luz</translation>
        </message>
        <message>
            <source>the face is small: use a larger picture</source>
            <translation>o rosto é pequeno: use uma imagem maior</translation>
        </message>
        <message>
            <source>the figures lack {error}, or have something else in its place: expected what `mcnet-train evaluate --json` wrote</source>
            <translation>falta {error} nos números, ou há outra coisa no lugar: esperava-se o que `mcnet-train evaluate --json` gravou</translation>
        </message>
        <message>
            <source>the fine detail of this portrait cannot be shown: {error}</source>
            <translation>os detalhes finos deste retrato não podem ser mostrados: {error}</translation>
        </message>
        <message>
            <source>the folder {path} holds no picture: expected files such as PNG, JPEG or HEIC</source>
            <translation>a pasta {path} não contém imagem: esperavam-se arquivos como PNG, JPEG ou HEIC</translation>
        </message>
        <message>
            <source>the head is tilted</source>
            <translation>a cabeça está inclinada</translation>
        </message>
        <message>
            <source>the head is turned to the side</source>
            <translation>a cabeça está virada de lado</translation>
        </message>
        <message>
            <source>the key was lost {n} times in a row ({error}): choose it again</source>
            <translation>a tecla se perdeu {n} vezes seguidas ({error}): escolha-a de novo</translation>
        </message>
        <message>
            <source>the key was not given in the desktop's dialog: choose it again to be asked</source>
            <translation>a tecla não foi dada na caixa de diálogo da área de trabalho: escolha-a de novo para ser perguntado</translation>
        </message>
        <message>
            <source>the microphone fails: {error}</source>
            <translation>o microfone falha: {error}</translation>
        </message>
        <message>
            <source>the microphone gives no sound: plug it in again, or choose another one</source>
            <translation>o microfone não dá som: conecte-o de novo, ou escolha outro</translation>
        </message>
        <message>
            <source>the microphone is not there: plug it in, or choose another one</source>
            <translation>o microfone não está lá: conecte-o, ou escolha outro</translation>
        </message>
        <message>
            <source>the microphone {description} cannot be opened ({name}): close what else uses it, or choose another one</source>
            <translation>o microfone {description} não pode ser aberto ({name}): feche o que mais o usa, ou escolha outro</translation>
        </message>
        <message>
            <source>the microphone {name} gives no sound any more: plug it in again, close what else uses it, or choose another one</source>
            <translation>o microfone {name} não dá mais som: conecte-o de novo, feche o que mais o usa, ou escolha outro</translation>
        </message>
        <message>
            <source>the microphone {name} gives no sound: plug it in again, or choose another one</source>
            <translation>o microfone {name} não dá som: conecte-o de novo, ou escolha outro</translation>
        </message>
        <message>
            <source>the model</source>
            <translation>o modelo</translation>
        </message>
        <message>
            <source>the model cannot be loaded: {reason}</source>
            <translation>o modelo não pode ser carregado: {reason}</translation>
        </message>
        <message>
            <source>the model gives no pictures: wait, or press Start again</source>
            <translation>o modelo não dá imagens: espere, ou pressione “Reiniciar”</translation>
        </message>
        <message>
            <source>the model has given no picture for {seconds:g} s: wait, or start again</source>
            <translation>o modelo não deu imagem por {seconds:g} s: espere, ou reinicie</translation>
        </message>
        <message>
            <source>the model is loading</source>
            <translation>o modelo está carregando</translation>
        </message>
        <message>
            <source>the mouth is open: teeth and lips will stretch</source>
            <translation>a boca está aberta: dentes e lábios vão esticar</translation>
        </message>
        <message>
            <source>the network {path} is not the bundled one: got SHA-256 {found}..., expected {expected}...; reinstall the package</source>
            <translation>a rede {path} não é a incluída: o SHA-256 é {found}..., esperava-se {expected}...; reinstale o pacote</translation>
        </message>
        <message>
            <source>the old file could not be moved ({error})</source>
            <translation>o arquivo antigo não pôde ser movido ({error})</translation>
        </message>
        <message>
            <source>the old file is kept as {aside}</source>
            <translation>o arquivo antigo foi mantido como {aside}</translation>
        </message>
        <message>
            <source>the output has failed: {reason}</source>
            <translation>a saída falhou: {reason}</translation>
        </message>
        <message>
            <source>the package c2pa-python cannot be used ({error}); install the app again, or switch Content Credentials off</source>
            <translation>o pacote c2pa-python não pode ser usado ({error}); instale o aplicativo de novo, ou desligue as credenciais de conteúdo</translation>
        </message>
        <message>
            <source>the package cryptography cannot be used ({error}); install the app again</source>
            <translation>o pacote cryptography não pode ser usado ({error}); instale o aplicativo de novo</translation>
        </message>
        <message>
            <source>the package {module} is missing in the bundle (install the app again)</source>
            <translation>o pacote {module} está faltando na versão autônoma (instale o aplicativo novamente)</translation>
        </message>
        <message>
            <source>the package {module} is not installed ({command})</source>
            <translation>o pacote {module} não está instalado ({command})</translation>
        </message>
        <message>
            <source>the person cannot be cut out of this portrait: {error}</source>
            <translation>a pessoa não pode ser recortada deste retrato: {error}</translation>
        </message>
        <message>
            <source>the picture is soft</source>
            <translation>a imagem está sem nitidez</translation>
        </message>
        <message>
            <source>the picture {path} is too large: got {width} x {height}, expected at most {millions} million pixels; make it smaller</source>
            <translation>a imagem {path} é grande demais: {width} x {height}, esperavam-se no máximo {millions} milhões de pixels; diminua-a</translation>
        </message>
        <message>
            <source>the picture {path} is too small: got {width} x {height}, expected at least {least_px} pixels on each side; use a larger one</source>
            <translation>a imagem {path} é pequena demais: {width} x {height}, esperavam-se pelo menos {least_px} pixels de cada lado; use uma maior</translation>
        </message>
        <message>
            <source>the pictures of {path} differ in size: got {own_width} x {own_height} in {name}, expected {width} x {height} as in {first}</source>
            <translation>as imagens de {path} têm tamanhos diferentes: {own_width} x {own_height} em {name}, esperava-se {width} x {height} como em {first}</translation>
        </message>
        <message>
            <source>the portrait is being prepared</source>
            <translation>o retrato está sendo preparado</translation>
        </message>
        <message>
            <source>the private key {key} is not that of the first certificate in {certificates}: give the pair that belongs together, the signer's certificate first</source>
            <translation>a chave privada {key} não é a do primeiro certificado em {certificates}: dê o par que combina, primeiro o certificado do signatário</translation>
        </message>
        <message>
            <source>the private key {path} has a passphrase, and nobody is there to type it: expected one without</source>
            <translation>a chave privada {path} tem senha, e não há ninguém para digitá-la: esperava-se uma sem</translation>
        </message>
        <message>
            <source>the private key {path} is of a kind that C2PA does not take: expected an elliptic curve (P-256, P-384 or P-521), Ed25519, or RSA of at least {bits} bits</source>
            <translation>a chave privada {path} é de um tipo que o C2PA não aceita: esperava-se uma curva elíptica (P-256, P-384 ou P-521), Ed25519, ou RSA de pelo menos {bits} bits</translation>
        </message>
        <message>
            <source>the process that looks inside the network has ended, perhaps for want of memory; close the view and open it again</source>
            <translation>o processo que olha dentro da rede terminou, talvez por falta de memória; feche a vista e abra-a de novo</translation>
        </message>
        <message>
            <source>the recording is not open; open it first</source>
            <translation>a gravação não está aberta; abra-a primeiro</translation>
        </message>
        <message>
            <source>the recording {detail} is going on already; stop it first</source>
            <translation>a gravação {detail} já está em andamento; pare-a primeiro</translation>
        </message>
        <message>
            <source>the recording {path} cannot go on: {cause}; {kept}</source>
            <translation>a gravação {path} não pode continuar: {cause}; {kept}</translation>
        </message>
        <message>
            <source>the recording {path} failed: {reason}; {kept}</source>
            <translation>a gravação {path} falhou: {reason}; {kept}</translation>
        </message>
        <message>
            <source>the session's message bus does not answer: {error}</source>
            <translation>o barramento de mensagens da sessão não responde: {error}</translation>
        </message>
        <message>
            <source>the session's message bus has ended: {error}</source>
            <translation>o barramento de mensagens da sessão terminou: {error}</translation>
        </message>
        <message>
            <source>the settings ask for detected keypoints, and this needs measured ones</source>
            <translation>as configurações pedem pontos-chave detectados, e isto precisa dos medidos</translation>
        </message>
        <message>
            <source>the signed copy does not hold when it is read back ({problems}), so that it was not kept</source>
            <translation>a cópia assinada não se sustenta ao ser relida ({problems}), por isso não foi mantida</translation>
        </message>
        <message>
            <source>the signed copy does not show the same pictures, so that it was not kept</source>
            <translation>a cópia assinada não mostra as mesmas imagens, por isso não foi mantida</translation>
        </message>
        <message>
            <source>the signed copy says something else, so that it was not kept</source>
            <translation>a cópia assinada diz outra coisa, por isso não foi mantida</translation>
        </message>
        <message>
            <source>the slate's picture</source>
            <translation>a imagem da tela de espera</translation>
        </message>
        <message>
            <source>the system forbids the camera: allow it in System Settings, Privacy</source>
            <translation>o sistema proíbe a câmera: permita-a em Ajustes do Sistema, Privacidade</translation>
        </message>
        <message>
            <source>the system's privacy settings keep the microphone from this app: allow it there</source>
            <translation>as configurações de privacidade do sistema negam o microfone a este aplicativo: permita-o lá</translation>
        </message>
        <message>
            <source>the system's sound cannot be used: what asks for it has crashed; start it again</source>
            <translation>o som do sistema não pode ser usado: o que o consulta travou; inicie-o de novo</translation>
        </message>
        <message>
            <source>the system's sound did not answer within {seconds:g} s: start it again</source>
            <translation>o som do sistema não respondeu em {seconds:g} s: inicie-o de novo</translation>
        </message>
        <message>
            <source>the video {path} is too large: got {width} x {height}, expected at most {millions} million pixels; make it smaller</source>
            <translation>o vídeo {path} é grande demais: {width} x {height}, esperavam-se no máximo {millions} milhões de pixels; reduza-o</translation>
        </message>
        <message>
            <source>the view into the network is the plain network's, which is torch's, and {lack}</source>
            <translation>a vista do interior é a da rede simples, que precisa do torch, e {lack}</translation>
        </message>
        <message>
            <source>the view into the network was closed; open it again</source>
            <translation>a vista do interior foi fechada; abra-a de novo</translation>
        </message>
        <message>
            <source>the virtual camera cannot be opened: see the advice below its switch</source>
            <translation>a câmera virtual não pode ser aberta: veja o conselho abaixo do interruptor dela</translation>
        </message>
        <message>
            <source>the virtual camera cannot be opened: {said}; close programs that may write to it, and try again</source>
            <translation>a câmera virtual não pode ser aberta: {said}; feche programas que possam escrever nela, e tente de novo</translation>
        </message>
        <message>
            <source>the virtual camera cannot be used: pyvirtualcam is not there ({error}); install it with `pip install pyvirtualcam`</source>
            <translation>a câmera virtual não pode ser usada: o pyvirtualcam não está lá ({error}); instale-o com `pip install pyvirtualcam`</translation>
        </message>
        <message>
            <source>the virtual camera is being opened</source>
            <translation>a câmera virtual está sendo aberta</translation>
        </message>
        <message>
            <source>the virtual camera is being opened again</source>
            <translation>a câmera virtual está sendo aberta de novo</translation>
        </message>
        <message>
            <source>the virtual camera is not open; open it first</source>
            <translation>a câmera virtual não está aberta; abra-a primeiro</translation>
        </message>
        <message>
            <source>the virtual camera is off: switch it on for a call</source>
            <translation>a câmera virtual está desligada: ligue-a para uma chamada</translation>
        </message>
        <message>
            <source>the virtual camera is open already ({detail}); close it first</source>
            <translation>a câmera virtual já está aberta ({detail}); feche-a primeiro</translation>
        </message>
        <message>
            <source>the virtual camera takes no pictures any more: switch it on again</source>
            <translation>a câmera virtual não recebe mais imagens: ligue-a de novo</translation>
        </message>
        <message>
            <source>the virtual camera {detail} could not be closed: {error}</source>
            <translation>a câmera virtual {detail} não pôde ser fechada: {error}</translation>
        </message>
        <message>
            <source>the virtual camera {detail} takes no pictures any more: {error}; open it again</source>
            <translation>a câmera virtual {detail} não recebe mais imagens: {error}; abra-a de novo</translation>
        </message>
        <message>
            <source>the {stage} has failed: {reason}</source>
            <translation>uma parte do aplicativo ({stage}) falhou: {reason}</translation>
        </message>
        <message>
            <source>there is no GPU {index}: torch finds {device_count}</source>
            <translation>não há GPU {index}: o torch encontra {device_count}</translation>
        </message>
        <message>
            <source>there is no Intel GPU {index}: OpenVINO finds {n}</source>
            <translation>não há GPU Intel {index}: o OpenVINO encontra {n}</translation>
        </message>
        <message>
            <source>there is no desktop to hear a key on</source>
            <translation>não há área de trabalho em que ouvir uma tecla</translation>
        </message>
        <message>
            <source>there is no file {path}; check the path</source>
            <translation>não há arquivo {path}; verifique o caminho</translation>
        </message>
        <message>
            <source>there is no microphone: plug one in, or allow it in the system's settings for sound</source>
            <translation>não há microfone: conecte um, ou permita-o nas configurações de som do sistema</translation>
        </message>
        <message>
            <source>this Wayland session has no message bus to ask its desktop by: bind mcnet-avatar ctl slate to a key in the desktop's own settings</source>
            <translation>esta sessão Wayland não tem barramento de mensagens para perguntar à área de trabalho: associe uma tecla a mcnet-avatar ctl slate nas configurações dela</translation>
        </message>
        <message>
            <source>this computer is being measured</source>
            <translation>este computador está sendo medido</translation>
        </message>
        <message>
            <source>this desktop's portal gives no keys to apps ({error}): bind mcnet-avatar ctl slate to a key in the desktop's own settings</source>
            <translation>o portal desta área de trabalho não dá teclas a aplicativos ({error}): associe uma tecla a mcnet-avatar ctl slate nas configurações dela</translation>
        </message>
        <message>
            <source>this machine shows no GPU that a program may compute with (there is no /dev/dri/renderD*)</source>
            <translation>este computador não mostra GPU com que um programa possa calcular (não há /dev/dri/renderD*)</translation>
        </message>
        <message>
            <source>this model's keypoints are not known points of a face</source>
            <translation>os pontos-chave deste modelo não são pontos conhecidos de um rosto</translation>
        </message>
        <message>
            <source>this user has no home folder: set HOME to a folder where the program may keep its files</source>
            <translation>este usuário não tem pasta pessoal: defina HOME como uma pasta onde o programa possa guardar seus arquivos</translation>
        </message>
        <message>
            <source>threads: got {threads}, expected at least 1, or None for all cores</source>
            <translation>threads: {threads} pedidas, esperava-se pelo menos 1, ou None para todos os núcleos</translation>
        </message>
        <message>
            <source>to do</source>
            <translation>a fazer</translation>
        </message>
        <message>
            <source>torch is not installed</source>
            <translation>o torch não está instalado</translation>
        </message>
        <message>
            <source>torch lacks something on the Apple GPU that the network needs ({error}): use device cpu, or a newer torch</source>
            <translation>falta ao torch na GPU da Apple algo de que a rede precisa ({error}): use o dispositivo cpu, ou um torch mais novo</translation>
        </message>
        <message>
            <source>torch {version} (for CUDA {cuda}) finds no usable NVIDIA GPU or driver</source>
            <translation>o torch {version} (para CUDA {cuda}) não encontra GPU NVIDIA utilizável nem driver</translation>
        </message>
        <message>
            <source>torch {version} finds no Apple GPU that it can use</source>
            <translation>o torch {version} não encontra GPU da Apple que possa usar</translation>
        </message>
        <message>
            <source>torch {version} has no NVIDIA driver to compute with</source>
            <translation>o torch {version} não tem driver NVIDIA com que calcular</translation>
        </message>
        <message>
            <source>torch {version} is a build without Apple's Metal</source>
            <translation>o torch {version} é uma compilação sem o Metal da Apple</translation>
        </message>
        <message>
            <source>torch {version} is a build without CUDA</source>
            <translation>o torch {version} é uma compilação sem CUDA</translation>
        </message>
        <message>
            <source>trying {way}</source>
            <translation>tentando {way}</translation>
        </message>
        <message>
            <source>turn your head as in the portrait</source>
            <translation>vire a cabeça como no retrato</translation>
        </message>
        <message>
            <source>unknown config key {prefix}{unknown}; the known ones are {known}</source>
            <translation>chave de configuração desconhecida {prefix}{unknown}; as conhecidas são {known}</translation>
        </message>
        <message>
            <source>unknown key {key}</source>
            <translation>chave desconhecida {key}</translation>
        </message>
        <message>
            <source>unknown {what} {key}</source>
            <translation>desconhecido: {what} {key}</translation>
        </message>
        <message>
            <source>unknown {what} {prefix}{unknown}; the known ones are {kinds}</source>
            <translation>desconhecido: {what} {prefix}{unknown}; os conhecidos são {kinds}</translation>
        </message>
        <message>
            <source>unplug it and plug it in again, close other programs that use it</source>
            <translation>desconecte-a e conecte-a de novo, feche outros programas que a usem</translation>
        </message>
        <message>
            <source>v4l2loopback is loaded, but has no device.</source>
            <translation>o v4l2loopback está carregado, mas não tem dispositivo.</translation>
        </message>
        <message>
            <source>version: got {version}, expected {known}</source>
            <translation>version: {version}, esperava-se {known}</translation>
        </message>
        <message>
            <source>virtual camera</source>
            <translation>câmera virtual</translation>
        </message>
        <message>
            <source>virtual camera {detail}: got a picture of {shape}, expected {expected}</source>
            <translation>câmera virtual {detail}: a imagem é {shape}, esperava-se {expected}</translation>
        </message>
        <message>
            <source>virtual camera: got backend {backend}, expected one of {backends}</source>
            <translation>câmera virtual: o motor é {backend}, esperava-se um de {backends}</translation>
        </message>
        <message>
            <source>waiting for the weights of the model in use…</source>
            <translation>esperando os pesos do modelo em uso…</translation>
        </message>
        <message>
            <source>warped L1 of copying</source>
            <translation>L1 do deformado em relação à cópia</translation>
        </message>
        <message>
            <source>warped L1 of copying, of what it learns from</source>
            <translation>L1 do deformado em relação à cópia, nos dados com que aprende</translation>
        </message>
        <message>
            <source>what is around this portrait cannot be shown: {error}</source>
            <translation>não é possível mostrar o que está ao redor deste retrato: {error}</translation>
        </message>
        <message>
            <source>what speaks to PipeWire has crashed</source>
            <translation>o que fala com o PipeWire travou</translation>
        </message>
        <message>
            <source>what {path} says of itself cannot be read: {why}</source>
            <translation>o que {path} diz de si não pode ser lido: {why}</translation>
        </message>
        <message>
            <source>widths of at least {least}</source>
            <translation>larguras de pelo menos {least}</translation>
        </message>
        <message>
            <source>wood</source>
            <translation>madeira</translation>
        </message>
        <message>
            <source>working…</source>
            <translation>trabalhando…</translation>
        </message>
        <message>
            <source>{busy_ms:.0f} ms each</source>
            <translation>{busy_ms:.0f} ms cada</translation>
        </message>
        <message>
            <source>{camera} gives a picture of one colour: open its shutter, or switch it on with its key</source>
            <translation>{camera} dá uma imagem de uma só cor: abra a tampa, ou ligue-a com a tecla dela</translation>
        </message>
        <message>
            <source>{camera} goes on.</source>
            <translation>{camera} continua.</translation>
        </message>
        <message>
            <source>{changed} changed</source>
            <translation>{changed} alterados</translation>
        </message>
        <message>
            <source>{counts} counts, one for each UpBlock</source>
            <translation>{counts} quantidades, uma para cada UpBlock</translation>
        </message>
        <message>
            <source>{delay_ms:.0f} ms</source>
            <translation>{delay_ms:.0f} ms</translation>
        </message>
        <message>
            <source>{device} ({name}), {why}, in {precision}</source>
            <translation>{device} ({name}), {why}; em {precision}</translation>
        </message>
        <message>
            <source>{device} in {precision} with {backend}</source>
            <translation>{device} em {precision} com {backend}</translation>
        </message>
        <message>
            <source>{done} of {steps}</source>
            <translation>{done} de {steps}</translation>
        </message>
        <message>
            <source>{error}. Presets of this run are not kept</source>
            <translation>{error}. As predefinições desta sessão não são guardadas</translation>
        </message>
        <message>
            <source>{error}; it is asked again in {pause_s:g} s</source>
            <translation>{error}; será pedida de novo em {pause_s:g} s</translation>
        </message>
        <message>
            <source>{error}; until it can be had again, it is asked for from time to time</source>
            <translation>{error}; será pedida de novo de tempos em tempos, até que seja possível</translation>
        </message>
        <message>
            <source>{file} was not finished within {seconds:g} s: leave its disk connected, and see later if it plays</source>
            <translation>{file} não foi concluído em {seconds:g} s: deixe o disco conectado e veja mais tarde se ele pode ser reproduzido</translation>
        </message>
        <message>
            <source>{first} and {then}</source>
            <translation>{first} e {then}</translation>
        </message>
        <message>
            <source>{first} or {then}</source>
            <translation>{first} ou {then}</translation>
        </message>
        <message>
            <source>{first}, {then}</source>
            <translation>{first}, {then}</translation>
        </message>
        <message>
            <source>{first}. {then}</source>
            <translation>{first}. {then}</translation>
        </message>
        <message>
            <source>{first}; {then}</source>
            <translation>{first}; {then}</translation>
        </message>
        <message>
            <source>{folder} holds no model: got neither {model_file} nor {latest_file}, expected a folder that `mcnet-train export` wrote, or that of a run that has saved what it learned</source>
            <translation>{folder} não contém modelo: não há nem {model_file} nem {latest_file}; esperava-se uma pasta que `mcnet-train export` gravou, ou a de um treinamento que salvou o que aprendeu</translation>
        </message>
        <message>
            <source>{found}, while the machine was busy with something else</source>
            <translation>{found}, enquanto o computador estava ocupado com outra coisa</translation>
        </message>
        <message>
            <source>{fps:.0f} fps</source>
            <translation>{fps:.0f} qps</translation>
        </message>
        <message numerus="yes">
            <source>{fps:5.1f} fps   {n} frames</source>
            <translation>
                <numerusform>{fps:5.1f} qps   {n} quadro</numerusform>
                <numerusform>{fps:5.1f} qps   {n} quadros</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <source>{fps:5.1f} fps   {n} pictures</source>
            <translation>
                <numerusform>{fps:5.1f} qps   {n} imagem</numerusform>
                <numerusform>{fps:5.1f} qps   {n} imagens</numerusform>
            </translation>
        </message>
        <message>
            <source>{frame_ms:.3g} ms on {way}</source>
            <translation>{frame_ms:.3g} ms em {way}</translation>
        </message>
        <message>
            <source>{kept}; {error}</source>
            <translation>{kept}; {error}</translation>
        </message>
        <message>
            <source>{key} shows the slate, whichever window has the focus.</source>
            <translation>{key} mostra a tela de espera, seja qual for a janela com o foco.</translation>
        </message>
        <message>
            <source>{key}: got {got}, expected no such key</source>
            <translation>{key}: {got}, não se esperava tal chave</translation>
        </message>
        <message>
            <source>{key}: got {got}, expected {expected}</source>
            <translation>{key}: {got}, esperava-se {expected}</translation>
        </message>
        <message>
            <source>{lack}; in a clone, `make setup` installs every package</source>
            <translation>{lack}; em um clone, `make setup` instala todos os pacotes</translation>
        </message>
        <message>
            <source>{lack}; or switch Content Credentials off</source>
            <translation>{lack}; ou desligue as credenciais de conteúdo</translation>
        </message>
        <message>
            <source>{lack}; use device cpu, or another precision</source>
            <translation>{lack}; use o dispositivo cpu, ou outra precisão</translation>
        </message>
        <message>
            <source>{levels} widths, as the encoder</source>
            <translation>{levels} larguras, como o codificador</translation>
        </message>
        <message>
            <source>{licences} and {more} more</source>
            <translation>{licences} e mais {more}</translation>
        </message>
        <message>
            <source>{licences}; not stated for some</source>
            <translation>{licences}; para alguns não informado</translation>
        </message>
        <message>
            <source>{measure} {share:.0%}</source>
            <translation>{measure} {share:.0%}</translation>
        </message>
        <message>
            <source>{measure} {value:.2f}</source>
            <translation>{measure} {value:.2f}</translation>
        </message>
        <message>
            <source>{model} animates the portrait now.</source>
            <translation>{model} anima o retrato agora.</translation>
        </message>
        <message>
            <source>{model} cannot be used: {reason}. {other} goes on.</source>
            <translation>{model} não pode ser usado: {reason}. {other} continua.</translation>
        </message>
        <message>
            <source>{model} cannot be used: {reason}. {other} is back.</source>
            <translation>{model} não pode ser usado: {reason}. {other} está de volta.</translation>
        </message>
        <message>
            <source>{names}; did you mean {nearest}?</source>
            <translation>{names}; você quis dizer {nearest}?</translation>
        </message>
        <message>
            <source>{name} (key {key})</source>
            <translation>{name} (tecla {key})</translation>
        </message>
        <message>
            <source>{name} (process {pid})</source>
            <translation>{name} (processo {pid})</translation>
        </message>
        <message>
            <source>{name} (sm_{major}{minor}) is older than what this torch was built for (sm_{known})</source>
            <translation>{name} (sm_{major}{minor}) é mais antiga do que este torch suporta (sm_{known})</translation>
        </message>
        <message>
            <source>{name} came with the app and keeps its name: only your own portraits can be renamed</source>
            <translation>{name} veio com o aplicativo e mantém o nome: só os seus próprios retratos podem ser renomeados</translation>
        </message>
        <message>
            <source>{name} came with the app and stays: only your own portraits can be removed</source>
            <translation>{name} veio com o aplicativo e fica: só os seus próprios retratos podem ser removidos</translation>
        </message>
        <message>
            <source>{name} cannot be found: no host of that name is known; check the address, or use the number that the app shows</source>
            <translation>{name} não pode ser encontrada: nenhum host com esse nome é conhecido; verifique o endereço, ou use o número que o aplicativo mostra</translation>
        </message>
        <message>
            <source>{name} cannot be opened: it is in use by another program, or not permitted; close that program</source>
            <translation>não é possível abrir {name}: está em uso por outro programa, ou não é permitido; feche esse programa</translation>
        </message>
        <message>
            <source>{name} cannot be opened: it is in use by another program, or not permitted; close that program; allow it under {place}</source>
            <translation>não é possível abrir {name}: está em uso por outro programa, ou não é permitido; feche esse programa; permita em {place}</translation>
        </message>
        <message>
            <source>{name} cannot be opened: {reason}</source>
            <translation>{name} não pode ser aberto: {reason}</translation>
        </message>
        <message>
            <source>{name} cannot be reached ({cause}): see that its app runs, that both are in the same network, and that the address and its port are right</source>
            <translation>{name} não pode ser alcançada ({cause}): veja se o aplicativo está em execução, se ambos estão na mesma rede, e se o endereço e a porta estão certos</translation>
        </message>
        <message>
            <source>{name} cannot be used: {problem}; close programs that may use it, or plug it in again</source>
            <translation>{name} não pode ser usada: {problem}; feche programas que possam usá-la, ou conecte-a de novo</translation>
        </message>
        <message>
            <source>{name} changed its picture from {width_px} x {height_px} to {width} x {height}: it is opened anew</source>
            <translation>{name} mudou a imagem de {width_px} x {height_px} para {width} x {height}: ela é aberta de novo</translation>
        </message>
        <message>
            <source>{name} changed its picture: got {shape}, expected {value}; open it again</source>
            <translation>{name} mudou a imagem: {shape}, esperava-se {value}; abra-a de novo</translation>
        </message>
        <message>
            <source>{name} could not be closed: {reason}</source>
            <translation>{name} não pôde ser fechado: {reason}</translation>
        </message>
        <message>
            <source>{name} could not be finished: {reason}</source>
            <translation>{name} não pôde ser concluído: {reason}</translation>
        </message>
        <message>
            <source>{name} does not answer: got nothing within {seconds:g} s; see that its app runs, and that both are in the same network</source>
            <translation>{name} não responde: nada veio em {seconds:g} s; veja se o aplicativo está em execução, e se ambos estão na mesma rede</translation>
        </message>
        <message>
            <source>{name} does not answer: {users} attempts to read it hang in its driver; {remedy}, or choose another camera</source>
            <translation>{name} não responde: {users} tentativas de leitura estão presas no driver; {remedy}, ou escolha outra câmera</translation>
        </message>
        <message>
            <source>{name} does not tell the ranges of its activations: write a file that does (`mcnet convert --int8`)</source>
            <translation>{name} não informa as faixas das ativações: grave um arquivo que informe (`mcnet convert --int8`)</translation>
        </message>
        <message>
            <source>{name} ended without a frame</source>
            <translation>{name} terminou sem um quadro</translation>
        </message>
        <message>
            <source>{name} failed: {error}</source>
            <translation>{name} falhou: {error}</translation>
        </message>
        <message>
            <source>{name} failed: {reason}</source>
            <translation>{name} falhou: {reason}</translation>
        </message>
        <message>
            <source>{name} gave no frame within {seconds:g} s: {remedy}, or choose another camera</source>
            <translation>{name} não deu quadro em {seconds:g} s: {remedy}, ou escolha outra câmera</translation>
        </message>
        <message>
            <source>{name} gives no frames any more: unplugged, or taken by another program; plug it in again or close the other program</source>
            <translation>{name} não dá mais imagens: desconectada, ou tomada por outro programa; conecte-a de novo ou feche o outro programa</translation>
        </message>
        <message>
            <source>{name} gives no video ({cause}): look in its app for the video's address</source>
            <translation>{name} não dá vídeo ({cause}): procure no aplicativo o endereço do vídeo</translation>
        </message>
        <message>
            <source>{name} gives no video: got a page or a file; use the address of the video itself, such as {scheme}://{address}{path}</source>
            <translation>{name} não dá vídeo, mas uma página ou um arquivo; use o endereço do próprio vídeo, como {scheme}://{address}{path}</translation>
        </message>
        <message>
            <source>{name} gives no video: got a stream without pictures; look in its app for the video's address</source>
            <translation>{name} não dá vídeo, mas um fluxo sem imagens; procure no aplicativo o endereço do vídeo</translation>
        </message>
        <message>
            <source>{name} gives pictures of {width} x {height}, expected at least {least_px} pixels per side: choose a larger size in its app</source>
            <translation>{name} dá imagens de {width} x {height}, esperavam-se pelo menos {least_px} pixels por lado: escolha um tamanho maior no aplicativo</translation>
        </message>
        <message>
            <source>{name} has closed the connection: see that its app still runs</source>
            <translation>{name} fechou a conexão: veja se o aplicativo ainda está em execução</translation>
        </message>
        <message>
            <source>{name} has ended; plug it in again, or choose another camera</source>
            <translation>{name} terminou; conecte-a de novo, ou escolha outra câmera</translation>
        </message>
        <message>
            <source>{name} has given no frame for {seconds:g} s; it is opened anew. If that does not help, {remedy}, or choose another camera</source>
            <translation>{name} não deu quadro por {seconds:g} s; ela é aberta de novo. Se isso não ajudar: {remedy}, ou escolha outra câmera</translation>
        </message>
        <message>
            <source>{name} has given no picture for {seconds:g} s: see that its app is in front, the phone awake, and both in the same network</source>
            <translation>{name} não deu imagem por {seconds:g} s: veja se o aplicativo está à frente, o telefone acordado, e ambos na mesma rede</translation>
        </message>
        <message>
            <source>{name} has given the very same picture for {seconds:g} s: it is frozen and is opened anew. If that does not help, plug it in again</source>
            <translation>{name} deu exatamente a mesma imagem por {seconds:g} s: está congelada e é aberta de novo. Se isso não ajudar, conecte-a de novo</translation>
        </message>
        <message>
            <source>{name} has no video there ({cause}): look in its app for the video's address</source>
            <translation>{name} não tem vídeo ali ({cause}): procure no aplicativo o endereço do vídeo</translation>
        </message>
        <message>
            <source>{name} is a motion file, expected what gives pictures</source>
            <translation>{name} é um arquivo de movimento, esperava-se algo que dê imagens</translation>
        </message>
        <message>
            <source>{name} is a recording, expected a live camera: download it, and give the file</source>
            <translation>{name} é uma gravação, esperava-se uma câmera ao vivo: baixe-a, e informe o arquivo</translation>
        </message>
        <message>
            <source>{name} is in use by {users}; close that program</source>
            <translation>{name} está em uso por {users}; feche esse programa</translation>
        </message>
        <message>
            <source>{name} is saved, but without Content Credentials: {why}.</source>
            <translation>{name} foi salvo, mas sem credenciais de conteúdo: {why}.</translation>
        </message>
        <message>
            <source>{name} is there, but is not used: {lack}</source>
            <translation>{name} está lá, mas não é usada: {lack}</translation>
        </message>
        <message>
            <source>{name} wants another user name or password: give them in the address, as in http://USER:PASSWORD@HOST/video</source>
            <translation>{name} pede outro usuário ou senha: informe-os no endereço, como em http://USER:PASSWORD@HOST/video</translation>
        </message>
        <message>
            <source>{name} was closed; open it again to read on</source>
            <translation>{name} foi fechada; abra-a de novo para continuar a ler</translation>
        </message>
        <message>
            <source>{name} was taken out of the gallery.</source>
            <translation>{name} foi tirado da galeria.</translation>
        </message>
        <message>
            <source>{name}, a camera of another kind</source>
            <translation>{name}, uma câmera de outro tipo</translation>
        </message>
        <message>
            <source>{name}, score {score} of 100</source>
            <translation>{name}, nota {score} de 100</translation>
        </message>
        <message>
            <source>{name}, {cores} cores, {threads} threads</source>
            <translation>{name}, {cores} núcleos, {threads} threads</translation>
        </message>
        <message>
            <source>{name}: got no frame any more, expected a video; was the file changed?</source>
            <translation>{name}: não veio mais nenhum quadro, esperava-se um vídeo; o arquivo foi alterado?</translation>
        </message>
        <message>
            <source>{name}: there is no such camera; {advice}</source>
            <translation>{name}: não existe tal câmera; {advice}</translation>
        </message>
        <message>
            <source>{name}: {complaint}</source>
            <translation>{name}: {complaint}</translation>
        </message>
        <message>
            <source>{name}: {text}</source>
            <translation>{name}: {text}</translation>
        </message>
        <message>
            <source>{number} from {hop}</source>
            <translation>{number} de {hop}</translation>
        </message>
        <message>
            <source>{number} more</source>
            <translation>mais {number}</translation>
        </message>
        <message>
            <source>{number}%</source>
            <comment>percent</comment>
            <translation>{number}%</translation>
        </message>
        <message>
            <source>{p50:.0f} ms in app (p95 {p95:.0f})</source>
            <translation>{p50:.0f} ms no aplicativo (p95 {p95:.0f})</translation>
        </message>
        <message>
            <source>{path} ({name}) is a virtual camera that no program feeds, expected a webcam; choose another</source>
            <translation>{path} ({name}) é uma câmera virtual que nenhum programa alimenta, esperava-se uma webcam; escolha outra</translation>
        </message>
        <message>
            <source>{path} ({name}) is not a capture device, expected a webcam; choose another</source>
            <translation>{path} ({name}) não é um dispositivo de captura, esperava-se uma webcam; escolha outra</translation>
        </message>
        <message>
            <source>{path} cannot be read ({error}); check the path</source>
            <translation>{path} não pode ser lido ({error}); verifique o caminho</translation>
        </message>
        <message>
            <source>{path} cannot be read as a checkpoint: it is something else, or truncated or damaged; get it again</source>
            <translation>{path} não pode ser lido como checkpoint: é outra coisa, ou está cortado ou danificado; obtenha-o de novo</translation>
        </message>
        <message>
            <source>{path} cannot be read as a motion file: {error}; copy or record it again</source>
            <translation>{path} não pode ser lido como arquivo de movimento: {error}; copie-o ou grave-o de novo</translation>
        </message>
        <message>
            <source>{path} cannot be read: {cause}</source>
            <translation>{path} não pode ser lido: {cause}</translation>
        </message>
        <message>
            <source>{path} has a header that cannot be used: {error}; a newer version may have written it</source>
            <translation>{path} tem um cabeçalho que não pode ser usado: {error}; uma versão mais nova pode tê-lo gravado</translation>
        </message>
        <message>
            <source>{path} has {count} frames, expected at most {most}</source>
            <translation>{path} tem {count} quadros, esperavam-se no máximo {most}</translation>
        </message>
        <message>
            <source>{path} holds no certificates ({error}); expected PEM, the signer's first</source>
            <translation>{path} não contém certificados ({error}); esperava-se PEM, primeiro o do signatário</translation>
        </message>
        <message>
            <source>{path} holds no private key ({error}); expected PEM</source>
            <translation>{path} não contém chave privada ({error}); esperava-se PEM</translation>
        </message>
        <message>
            <source>{path} is a damaged motion file: {error}; copy or record it again</source>
            <translation>{path} é um arquivo de movimento danificado: {error}; copie-o ou grave-o de novo</translation>
        </message>
        <message>
            <source>{path} is a file of torch's, and {lack}: convert it once where torch is (`mcnet convert {name} model.safetensors --int8`), and use that</source>
            <translation>{path} é um arquivo do torch, e {lack}: converta-o uma vez onde houver torch (`mcnet convert {name} model.safetensors --int8`), e use o resultado</translation>
        </message>
        <message>
            <source>{path} is a folder, a device or a pipe, and only a file can be used; choose another</source>
            <translation>{path} é uma pasta, um dispositivo ou um pipe, e só um arquivo pode ser usado; escolha outro</translation>
        </message>
        <message>
            <source>{path} is a motion file of version {version}, this program knows versions up to {known}; use a newer one</source>
            <translation>{path} é um arquivo de movimento da versão {version}, este programa conhece versões até {known}; use um mais novo</translation>
        </message>
        <message>
            <source>{path} is cut short: got {size} bytes, expected {end}; get it again</source>
            <translation>{path} está cortado: {size} bytes, esperavam-se {end}; obtenha-o de novo</translation>
        </message>
        <message>
            <source>{path} is damaged: its tensors hash to {got}, its header says {content_hash}; get it again</source>
            <translation>{path} está danificado: o hash dos tensores é {got}, o cabeçalho diz {content_hash}; obtenha-o de novo</translation>
        </message>
        <message>
            <source>{path} is larger than {most} MB, expected a motion file; take a shorter one</source>
            <translation>{path} passa de {most} MB, esperava-se um arquivo de movimento; use um mais curto</translation>
        </message>
        <message>
            <source>{path} is no MCNet checkpoint: got {found}, expected dicts named {parts}</source>
            <translation>{path} não é um checkpoint do MCNet: há {found}, esperavam-se dicts chamados {parts}</translation>
        </message>
        <message>
            <source>{path} is no motion file: expected one that --save-motion or the app recorded</source>
            <translation>{path} não é um arquivo de movimento: esperava-se um gravado por --save-motion ou pelo aplicativo</translation>
        </message>
        <message>
            <source>{path} is no safetensors file that can be read ({said}): get it again</source>
            <translation>{path} não é um arquivo safetensors legível ({said}): obtenha-o de novo</translation>
        </message>
        <message>
            <source>{path} is no safetensors file: its header is no table</source>
            <translation>{path} não é um arquivo safetensors: o cabeçalho não é uma tabela</translation>
        </message>
        <message>
            <source>{path} is no safetensors file: its header lists no tensors</source>
            <translation>{path} não é um arquivo safetensors: o cabeçalho não lista tensores</translation>
        </message>
        <message>
            <source>{path} is no whole safetensors file ({error}): it may be truncated; get it again</source>
            <translation>{path} não é um arquivo safetensors completo ({error}): pode estar truncado; obtenha-o novamente</translation>
        </message>
        <message>
            <source>{path} is no whole safetensors file: it may be truncated, or something else</source>
            <translation>{path} não é um arquivo safetensors completo: pode estar cortado, ou ser outra coisa</translation>
        </message>
        <message>
            <source>{path} is not a model of ours: got format {found} in its header, expected {format}</source>
            <translation>{path} não é um modelo nosso: o formato no cabeçalho é {found}, esperava-se {format}</translation>
        </message>
        <message>
            <source>{path} is not a model of ours: got format {got} in its header, expected {format}</source>
            <translation>{path} não é um modelo nosso: o formato no cabeçalho é {got}, esperava-se {format}</translation>
        </message>
        <message>
            <source>{path} is refused: besides tensors it holds something that could run code when it is read ({wanted}); do not trust where it came from, or have it saved again with tensors only</source>
            <translation>{path} é recusado: além de tensores, contém algo que poderia executar código ao ser lido ({wanted}); não confie na origem dele, ou peça que seja salvo de novo só com tensores</translation>
        </message>
        <message>
            <source>{path} was changed, and not all of it can be used: {said}. In place of that stays what this window has; {kept}.</source>
            <translation>{path} foi alterado, e nem tudo nele pode ser usado: {said}. No lugar disso fica o que esta janela tem; {kept}.</translation>
        </message>
        <message>
            <source>{path}: got suffix {suffix}, expected {kinds}</source>
            <translation>{path}: a extensão é {suffix}, esperava-se {kinds}</translation>
        </message>
        <message>
            <source>{path}: {key} is a tensor of {kind}, expected F32 or F16 as we write them: have the model saved again as one of these</source>
            <translation>{path}: {key} é um tensor de {kind}, esperava-se F32 ou F16, como os gravamos: mande salvar o modelo de novo em um deles</translation>
        </message>
        <message>
            <source>{path}: {part}.{key} is a {kind}, expected a name and a tensor</source>
            <translation>{path}: {part}.{key} é um {kind}, esperava-se um nome e um tensor</translation>
        </message>
        <message>
            <source>{percent:.0f} %</source>
            <translation>{percent:.0f}%</translation>
        </message>
        <message>
            <source>{place} is a link, which the token of control from outside cannot be: remove it</source>
            <translation>{place} é um link, o que o token do controle externo não pode ser: remova-o</translation>
        </message>
        <message>
            <source>{precision} (measured to be the fastest here)</source>
            <translation>{precision} (medido como o mais rápido aqui)</translation>
        </message>
        <message>
            <source>{precision} (which it multiplies best)</source>
            <translation>{precision} (o que ele multiplica melhor)</translation>
        </message>
        <message>
            <source>{precision} (which it multiplies natively)</source>
            <translation>{precision} (que ele multiplica nativamente)</translation>
        </message>
        <message>
            <source>{problems}; and {number} more</source>
            <translation>{problems}; e mais {number}</translation>
        </message>
        <message>
            <source>{rate_hz:g} per second</source>
            <translation>{rate_hz:g} por segundo</translation>
        </message>
        <message>
            <source>{reason}; nothing else computes on {device}: use device cpu</source>
            <translation>{reason}; nada mais calcula em {device}: use o dispositivo cpu</translation>
        </message>
        <message>
            <source>{reason}; {lack}, so that nothing else computes: install it, or mend that</source>
            <translation>{reason}; {lack}, de modo que nada mais calcula: instale-o, ou corrija isso</translation>
        </message>
        <message>
            <source>{request} A second or two is enough (F).</source>
            <translation>{request} Um ou dois segundos bastam (F).</translation>
        </message>
        <message>
            <source>{request} The best frame of a second or two becomes the reference (F).</source>
            <translation>{request} O melhor quadro de um ou dois segundos vira a referência (F).</translation>
        </message>
        <message>
            <source>{score} of 100</source>
            <translation>{score} de 100</translation>
        </message>
        <message>
            <source>{score} of 100, as calibrated before</source>
            <translation>{score} de 100, como calibrado antes</translation>
        </message>
        <message>
            <source>{score}: {remarks}</source>
            <translation>{score}: {remarks}</translation>
        </message>
        <message>
            <source>{sentence} {fix}.</source>
            <translation>{sentence} {fix}.</translation>
        </message>
        <message>
            <source>{sentence} {fix}: {command}</source>
            <translation>{sentence} {fix}: {command}</translation>
        </message>
        <message>
            <source>{size_px} px, {millions:.2g} M parameters</source>
            <translation>{size_px} px, {millions:.2g} M de parâmetros</translation>
        </message>
        <message>
            <source>{tip} Double-click the name, or press Backspace, for {words}.</source>
            <translation>{tip} Clique duas vezes no nome, ou pressione Backspace, para {words}.</translation>
        </message>
        <message>
            <source>{tip} Times Expression.</source>
            <translation>{tip} Multiplicado por “Expressão”.</translation>
        </message>
        <message>
            <source>{tip} Times Motion.</source>
            <translation>{tip} Multiplicado por “Movimento”.</translation>
        </message>
        <message>
            <source>{trouble} A call hears nothing meanwhile; it is tried again.</source>
            <translation>{trouble} Uma chamada não ouve nada enquanto isso; tenta-se de novo.</translation>
        </message>
        <message>
            <source>{trouble} Recordings go on, and are silent meanwhile.</source>
            <translation>{trouble} As gravações continuam, e ficam sem som enquanto isso.</translation>
        </message>
        <message>
            <source>{value:6.1f}</source>
            <translation>{value:6.1f}</translation>
        </message>
        <message>
            <source>{way}: {reason}</source>
            <translation>{way}: {reason}</translation>
        </message>
        <message>
            <source>{what} cannot be used: {error}</source>
            <translation>{what} não pode ser usada: {error}</translation>
        </message>
        <message>
            <source>{what} {key}: got {value}, expected a list</source>
            <translation>{what} {key}: {value}, esperava-se uma lista</translation>
        </message>
        <message>
            <source>{what} {key}: got {value}, expected a table of values</source>
            <translation>{what} {key}: {value}, esperava-se uma tabela de valores</translation>
        </message>
        <message>
            <source>{what} {key}: got {value}, expected {allowed}</source>
            <translation>{what} {key}: {value}, esperava-se {allowed}</translation>
        </message>
        <message>
            <source>{what} {key}: got {value}, expected {kind}</source>
            <translation>{what} {key}: {value}, esperava-se {kind}</translation>
        </message>
        <message>
            <source>{what}.{name}: got {got}, expected a table</source>
            <translation>{what}.{name}: {got}, esperava-se uma tabela</translation>
        </message>
        <message>
            <source>{what}.{name}: {complaint}</source>
            <translation>{what}.{name}: {complaint}</translation>
        </message>
        <message>
            <source>{what}: got {got}, expected a table of presets</source>
            <translation>{what}: {got}, esperava-se uma tabela de predefinições</translation>
        </message>
        <message>
            <source>{where} does not hold the network it should: {problems}. Convert the original file again, or use another one</source>
            <translation>{where} não contém a rede que deveria: {problems}. Converta o arquivo original de novo, ou use outro</translation>
        </message>
        <message>
            <source>{where}: {key} holds NaN or infinite values, expected finite weights; if a training run diverged, use an earlier checkpoint of it</source>
            <translation>{where}: {key} contém NaN ou valores infinitos, esperavam-se pesos finitos; se um treinamento divergiu, use um checkpoint anterior dele</translation>
        </message>
        <message>
            <source>{where}: {key} is a {kind} tensor, expected plain floating point</source>
            <translation>{where}: {key} é um tensor {kind}, esperava-se ponto flutuante simples</translation>
        </message>
        <message>
            <source>{width_px} x {height_px}, {fps_hz:.0f} fps</source>
            <translation>{width_px} x {height_px}, {fps_hz:.0f} qps</translation>
        </message>
        <message>
            <source>{widths} (the encoder's, reversed) when lateral is false</source>
            <translation>{widths} (as do codificador, invertidas) quando lateral é false</translation>
        </message>
        <message>
            <source>{words}.</source>
            <comment>a whole sentence</comment>
            <translation>{words}.</translation>
        </message>
        <message>
            <source>“AI avatar” badge</source>
            <translation>Selo “AI avatar”</translation>
        </message>
    </context>
</TS>
